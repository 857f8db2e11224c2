"""The world model with backbones other than IRIS's: it imagines, learns and observes long episodes with them."""

import pytest
import torch
from parts import NUM_ACTIONS, configured
from test_world_model import RefusesToLeaveTheDevice
from torch import Tensor, nn
from torch.testing import assert_close

from irisflow.randomness import sample_categorical
from irisflow.records import TokenBatch
from irisflow.training.optim import world_model_optimizer
from irisflow.world_model.world_model import State, WorldModel, build_world_model

K, VOCAB = 16, 32
BACKBONES = ["gru", "llama", "transformer_xl"]
CONSTANT = ["gru", "transformer_xl"]  # their memory has a greatest size, and no window


def build(name: str, *overrides: str) -> WorldModel:
    torch.manual_seed(0)
    settings = configured(f"world_model={name}", *overrides).world_model
    model = build_world_model(settings, vocab_size=VOCAB, num_actions=NUM_ACTIONS, tokens_per_frame=K)
    return model.eval()


def contrasted(model: WorldModel) -> WorldModel:
    """Return the model with weights by which, unlike at the start, contexts and classes differ."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def frames(batch: int, time: int) -> Tensor:
    return torch.randint(VOCAB, (batch, time, K), generator=generator(1))


def actions_of(batch: int, time: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, (batch, time), generator=generator(2))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(time: int) -> TokenBatch:
    rewards = torch.randint(-1, 2, (2, time), generator=generator(3)).float()
    mask = torch.ones(2, time, dtype=torch.bool)
    return TokenBatch(frames(2, time), actions_of(2, time), rewards, ~mask, mask)


@pytest.mark.parametrize("name", ["iris", *BACKBONES])
def test_the_full_backbone_has_about_as_many_parameters_as_iriss(name: str) -> None:
    settings = configured(f"world_model={name}", "scale=full").world_model
    model = build_world_model(settings, vocab_size=512, num_actions=4, tokens_per_frame=K)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(8_447_493, rel=0.02)


@pytest.mark.parametrize("name", BACKBONES)
def test_imagined_frames_are_those_of_one_pass_over_what_was_imagined(name: str) -> None:
    model = contrasted(build(name))
    seen, actions = frames(2, 1), actions_of(2, 3)
    state = model.observe(None, seen, actions[:, :0])
    for step in range(3):
        prediction, state = model.imagine(state, actions[:, step], generator=generator(step))
        last = model(seen, actions[:, : step + 1]).at_actions[:, -1]
        draws = generator(step)
        rewards = sample_categorical(model.reward_head(last), generator=draws) - 1
        ends = sample_categorical(model.end_head(last), generator=draws) == 1
        assert torch.equal(prediction.rewards, rewards.float())
        assert torch.equal(prediction.ends, ends)
        seen = torch.cat([seen, prediction.tokens[:, None]], dim=1)
        outputs = model(seen, torch.cat([actions[:, : step + 1], actions[:, :1]], dim=1)).outputs
        logits = model.prediction(outputs)[:, (step + 1) * K - 1 : (step + 2) * K - 1]
        for token in range(K):
            drawn = sample_categorical(logits[:, token], generator=draws)
            assert torch.equal(prediction.tokens[:, token], drawn)


@pytest.mark.parametrize("name", BACKBONES)
def test_nothing_leaves_the_device_while_imagining_longer_than_a_window(name: str) -> None:
    model, actions = build(name, "world_model.max_blocks=3"), actions_of(2, 1)[:, 0]
    state = model.observe(None, frames(2, 1), actions[:, None][:, :0])
    with RefusesToLeaveTheDevice(), torch.no_grad():
        for step in range(4):
            _, state = model.imagine(state, actions, generator=generator(step))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_fixed_batch_is_learnt_by_heart(name: str) -> None:
    model, batch = build(name).train(), batch_of(2)
    optimizer = world_model_optimizer(model, learning_rate=0.01, weight_decay=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.total.backward()
        optimizer.step()
        losses.append(loss.terms["observation"].item())
    assert losses[0] > 3.3, "log 32 is 3.47"
    assert losses[-1] < 1.0


@pytest.mark.parametrize("name", BACKBONES)
def test_the_loss_and_its_gradients_under_bfloat16_are_near_those_of_float32(name: str) -> None:
    model, batch = build(name), batch_of(3)
    exact = model.loss(batch).total
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(batch).total
    assert_close(rough, exact, rtol=0.01, atol=0.01)
    rough.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", CONSTANT)
def test_the_memory_of_a_long_episode_does_not_grow_and_is_that_of_observing_at_once(name: str) -> None:
    model = contrasted(build(name, "world_model.max_blocks=3"))
    seen, actions = frames(2, 9), actions_of(2, 9)
    state, sizes = model.observe(None, seen[:, :1], actions[:, :0]), []
    for step in range(8):
        state = model.observe(state, seen[:, step + 1 : step + 2], actions[:, step : step + 1])
        sizes.append(size(state.memory))
    assert model.backbone.window is None
    assert len(set(sizes[2:])) == 1
    assert state.memory.length == 8 * 17 + 15
    assert_same_future(model, state, model.observe(None, seen, actions[:, :8]), actions[:, 8])


def size(kept: object) -> int:
    """Return the bytes of a memory, whatever it is made of."""
    if isinstance(kept, Tensor):
        return kept.untyped_storage().nbytes()
    parts = kept if isinstance(kept, list) else vars(kept).values() if hasattr(kept, "__dict__") else []
    return sum(size(part) for part in parts)


def assert_same_future(model: WorldModel, one: State, other: State, actions: Tensor) -> None:
    stepwise, _ = model.imagine(one, actions, generator=generator(0))
    at_once, _ = model.imagine(other, actions, generator=generator(0))
    assert torch.equal(stepwise.tokens, at_once.tokens)
