"""What backbones whose memory does not grow have in common, and the world model that imagines with them."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from parts import configured, settings_of
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from irisflow import variants
from irisflow.behaviour.agent import build_agent
from irisflow.randomness import sample_categorical
from irisflow.records import TokenBatch
from irisflow.training.optim import world_model_optimizer
from irisflow.world_model.backbones.base import Backbone
from irisflow.world_model.world_model import WorldModel, build_world_model

BACKBONES = ["mamba", "retnet"]
K, VOCAB, NUM_ACTIONS = 16, 8, 4


def build(name: str) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = variants.build("backbone", settings_of("backbone", name)).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return backbone


def build_model(name: str) -> WorldModel:
    torch.manual_seed(0)
    return build_world_model(
        configured(f"world_model={name}").world_model,
        vocab_size=VOCAB,
        num_actions=NUM_ACTIONS,
        tokens_per_frame=K,
    )


def with_contrast(model: WorldModel) -> WorldModel:
    """Return the model with weights so large that contexts and classes differ."""
    for name, parameter in model.named_parameters():
        if "embedding" in name or "head" in name:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tensors_of(memory: Any) -> list[Tensor]:
    """Return all tensors in a memory."""
    if isinstance(memory, Tensor):
        return [memory]
    if is_dataclass(memory):
        return [found for field in fields(memory) for found in tensors_of(getattr(memory, field.name))]
    if isinstance(memory, list | tuple):
        return [found for part in memory for found in tensors_of(part)]
    return []


def num_bytes(memory: Any) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors_of(memory))


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_three_hundred_steps_stay_finite_equal_one_pass_and_keep_a_memory_of_one_size(name: str) -> None:
    backbone = build(name)
    embeddings = torch.randn(2, 300, backbone.embed_dim)
    one_pass, of_one_pass = backbone(embeddings)
    memory, outputs, sizes = None, [], set()
    for token in embeddings.split(1, dim=1):
        output, memory = backbone(token, memory)
        outputs.append(output)
        sizes.add(num_bytes(memory))
    assert torch.isfinite(one_pass).all()
    assert_close(torch.cat(outputs, dim=1), one_pass, rtol=1e-3, atol=1e-4)
    assert sizes == {num_bytes(of_one_pass)}
    assert memory.length == of_one_pass.length == 300
    assert backbone.window is None


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_thousands_of_large_inputs_stay_finite_in_float32(name: str) -> None:
    backbone = build(name)
    embeddings = 100 * torch.randn(1, 1, backbone.embed_dim).expand(-1, 4000, -1)
    outputs, memory = backbone(embeddings)
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(memory))
    assert_close(outputs[:, -1], outputs[:, -2], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", BACKBONES)
def test_nothing_is_written_into_a_memory_and_no_gradient_flows_through_it(name: str) -> None:
    backbone = build(name)
    embeddings = torch.randn(2, 9, backbone.embed_dim, requires_grad=True)
    _, memory = backbone(embeddings)
    before = [tensor.clone() for tensor in tensors_of(memory)]
    for length in (1, 5):
        backbone(torch.randn(2, length, backbone.embed_dim), memory)
    for tensor, same in zip(tensors_of(memory), before, strict=True):
        assert torch.equal(tensor, same)
        assert not tensor.requires_grad


class RefusesToLeaveTheDevice(TorchDispatchMode):
    """Raises where a tensor's value would have to be known outside of the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_nothing_leaves_the_device_when_stepping(name: str) -> None:
    backbone = build(name)
    with RefusesToLeaveTheDevice():
        memory = None
        for length in (4, 1, 3, 1):
            _, memory = backbone(torch.randn(2, length, backbone.embed_dim), memory)


@pytest.mark.parametrize("name", BACKBONES)
def test_in_bfloat16_steps_are_near_one_pass_and_states_stay_in_float32(name: str) -> None:
    backbone = build(name)
    embeddings = torch.randn(2, 40, backbone.embed_dim, requires_grad=True)
    exact = backbone(embeddings)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, memory = backbone(embeddings[:, :20])
        outputs = [outputs]
        for token in embeddings[:, 20:].split(1, dim=1):
            output, memory = backbone(token, memory)
            outputs.append(output)
        (gradient,) = torch.autograd.grad(backbone(embeddings)[0].float().square().sum(), embeddings)
    error = (torch.cat(outputs, dim=1).float() - exact).abs().mean() / exact.abs().mean()
    assert error < 0.05
    assert torch.isfinite(gradient).all()
    states = [tensor for tensor in tensors_of(memory) if tensor.shape[-1] > 3]
    assert states
    assert all(state.dtype == torch.float32 for state in states)


def random_tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB, (*shape, K), generator=torch.Generator().manual_seed(1))


def random_actions(*shape: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, shape, generator=torch.Generator().manual_seed(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", BACKBONES)
def test_imagined_frames_are_drawn_from_one_pass_over_what_was_imagined(name: str) -> None:
    """Six frames: more than the window of the Transformer at this scale, which has to forget."""
    model = with_contrast(build_model(name))
    start, actions = random_tokens(2, 1), random_actions(2, 6)
    state, frames, rewards = model.observe(None, start, actions[:, :0]), [start[:, 0]], []
    for step in range(6):
        prediction, state = model.imagine(state, actions[:, step], generator=generator(step))
        frames.append(prediction.tokens)
        rewards.append(prediction.rewards)
    assert state.memory.length == K - 1 + 6 * (K + 1)
    seen = model(torch.stack(frames, dim=1), torch.cat([actions, actions[:, :1]], dim=1))
    logits = model.prediction(seen.outputs)
    assert logits.softmax(-1).std(dim=(0, 1)).min() > 0.01, "the logits say something"
    for step in range(6):
        draws = generator(step)
        at_action = seen.at_actions[:, step]
        drawn = sample_categorical(model.reward_head(at_action), generator=draws) - 1
        assert torch.equal(rewards[step], drawn.float())
        sample_categorical(model.end_head(at_action), generator=draws)
        for token in range(K):
            drawn = sample_categorical(logits[:, (step + 1) * K - 1 + token], generator=draws)
            assert torch.equal(frames[step + 1][:, token], drawn)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_tiny_batch_is_learnt_by_heart(name: str) -> None:
    model = build_model(name).train()
    batch = TokenBatch(
        random_tokens(2, 3),
        random_actions(2, 3),
        torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]),
        torch.tensor([[False, False, True], [False, False, False]]),
        torch.ones(2, 3, dtype=torch.bool),
    )
    optimizer = world_model_optimizer(model, learning_rate=1e-2, weight_decay=0.01)
    losses = []
    for _ in range(60):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(float(loss.terms["observation"].detach()))
    assert losses[0] > 1.8, "about the logarithm of 8 tokens"
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_the_variant_builds_an_agent_of_the_scales_sizes(name: str) -> None:
    settings = configured(f"variant=backbone_{name}")
    agent = build_agent(settings, num_actions=NUM_ACTIONS)
    assert settings.variant.axis == "backbone"
    assert type(agent.world_model.backbone).__name__.lower() == name


@pytest.mark.parametrize("name", BACKBONES)
def test_at_full_scale_it_weighs_what_iris_does(name: str) -> None:
    settings = configured(f"world_model={name}", "scale=full").world_model
    with torch.device("meta"):
        backbone = variants.build("backbone", settings.backbone)
    weights = sum(parameter.numel() for parameter in backbone.parameters())
    assert weights == pytest.approx(7_985_152, rel=0.02)
