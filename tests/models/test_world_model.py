from collections import Counter

import pytest
import torch
from sizes import FULL_WORLD_MODEL, world_model_settings
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.randomness import sample_categorical
from irisflow.records import TokenBatch
from irisflow.training.optim import decay_groups, has_decay
from irisflow.world_model.heads import labels
from irisflow.world_model.prediction import autoregressive
from irisflow.world_model.rewards import sign
from irisflow.world_model.world_model import State, WorldModel, build_world_model

K, VOCAB, NUM_ACTIONS = 16, 8, 4
TINY = {
    "name": "gpt",
    "num_layers": 2,
    "num_heads": 2,
    "embed_dim": 16,
    "embed_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "attention": "causal",
    "max_tokens": 68,
    "tokens_per_block": 17,
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(max_blocks: int = 4, num_actions: int = NUM_ACTIONS) -> WorldModel:
    torch.manual_seed(0)
    model = build_world_model(
        world_model_settings(max_blocks=max_blocks),
        vocab_size=VOCAB,
        num_actions=num_actions,
        tokens_per_frame=K,
    )
    for name, parameter in model.named_parameters():  # unlike at the start, contexts and classes differ
        if name.endswith("weight"):
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def random_tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB, (*shape, K), generator=torch.Generator().manual_seed(1))


def random_actions(*shape: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, shape, generator=torch.Generator().manual_seed(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("num_actions", "parameters"), [(4, 8_447_493), (18, 8_451_077)])
def test_the_full_world_model_has_the_papers_parameters(num_actions: int, parameters: int) -> None:
    model = build_world_model(FULL_WORLD_MODEL, vocab_size=512, num_actions=num_actions, tokens_per_frame=16)
    assert count(model) == parameters
    assert count(model.backbone) - count(model.backbone.positions) == 7_898_112


def test_weights_start_small_and_biases_at_zero() -> None:
    model = build_world_model(FULL_WORLD_MODEL, vocab_size=512, num_actions=4, tokens_per_frame=16)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif parameter.numel() > 10_000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name


def test_block_causal_positions_see_their_own_block_but_no_later_one() -> None:
    settings = {**TINY, "attention": "block_causal"}
    backbone = variants.build("backbone", settings).eval()
    embeddings = torch.randn(1, 34, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone(embeddings)[0][:, 3, 0].sum(), embeddings)
    assert gradient[:, :17].abs().sum(-1).min() > 1e-6
    assert not gradient[:, 17:].any()


def test_a_sequence_beyond_the_window_is_refused() -> None:
    backbone = variants.build("backbone", TINY).eval()
    _, memory = backbone(torch.randn(1, 60, 16))
    with pytest.raises(ConfigError, match="sequence of 69 tokens exceeds the window of 68"):
        backbone(torch.randn(1, 9, 16), memory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "3 heads do not divide embed_dim 16"),
        ({"attention": "full"}, "'full' does not exist"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variants.build("backbone", {**TINY, **change})


def test_blocks_must_hold_the_tokenizers_tokens_and_an_action() -> None:
    with pytest.raises(ConfigError, match=r"tokens_per_block: 17 was given.* Allowed: 10"):
        build_world_model(world_model_settings(), vocab_size=8, num_actions=4, tokens_per_frame=9)


def test_labels_are_the_next_tokens_the_rewards_sign_and_the_end() -> None:
    batch = TokenBatch(
        tokens=torch.tensor([[[1, 2], [3, 4], [0, 0]]]),
        actions=torch.tensor([[5, 6, 0]]),
        rewards=torch.tensor([[7.0, -0.5, 0.0]]),
        ends=torch.tensor([[False, True, False]]),
        mask=torch.tensor([[True, True, False]]),
    )
    assert autoregressive.labels(batch.tokens, batch.mask).tolist() == [[2, 3, 4, -100, -100]]
    assert sign.labels(batch.rewards, batch.mask).tolist() == [[2, 0, -100]]
    assert labels(batch.ends.long(), batch.mask).tolist() == [[0, 1, -100]]


def token_batch(model_time: int = 3) -> TokenBatch:
    mask = torch.ones(2, model_time, dtype=torch.bool)
    mask[1, -1] = False
    return TokenBatch(
        random_tokens(2, model_time) * mask[..., None],
        random_actions(2, model_time) * mask,
        torch.randn(2, model_time) * mask,
        torch.zeros_like(mask),
        mask,
    )


def test_padding_changes_no_loss() -> None:
    model, batch = build(), token_batch()
    other = TokenBatch(
        torch.where(batch.mask[..., None], batch.tokens, 3),
        torch.where(batch.mask, batch.actions, 2),
        torch.where(batch.mask, batch.rewards, 9.0),
        batch.ends | ~batch.mask,
        batch.mask,
    )
    losses, others = model.loss(batch).terms, model.loss(other).terms
    assert set(losses) == {"observation", "reward", "end"}
    for name, loss in losses.items():
        assert_close(others[name], loss)


def test_all_parameters_learn_from_the_loss() -> None:
    model = build().train()
    model.loss(token_batch()).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_only_linear_weights_decay() -> None:
    model = build()
    decayed = {name for name, _ in model.named_parameters() if has_decay(model, name)}
    assert decayed == {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    groups = decay_groups(model, weight_decay=0.01)
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_parameter_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight belongs to a Conv1d: nothing says whether it decays"):
        decay_groups(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(1, 1, 1)), weight_decay=0.01)


def start(model: WorldModel, batch_size: int = 2) -> State:
    return model.observe(None, random_tokens(batch_size, 1), random_actions(batch_size, 0))


def test_imagined_logits_are_those_of_one_pass_over_what_was_imagined() -> None:
    """The tokens that imagination drew are the likeliest ones when the noise is that of the one pass."""
    model = build()
    state, frames, actions = start(model), [random_tokens(2, 1)[:, 0]], random_actions(2, 3)
    for step in range(3):
        prediction, state = model.imagine(state, actions[:, step], generator=generator(step))
        frames.append(prediction.tokens)
        last = model(torch.stack(frames[:-1], dim=1), actions[:, : step + 1]).at_actions[:, -1]
        draws = generator(step)
        rewards = sample_categorical(model.reward_head(last), generator=draws) - 1
        ends = sample_categorical(model.end_head(last), generator=draws) == 1
        assert_close(prediction.rewards, rewards.float())
        assert torch.equal(prediction.ends, ends)
        seen = model(torch.stack(frames, dim=1), torch.cat([actions[:, : step + 1], actions[:, :1]], dim=1))
        new_frame = model.prediction(seen.outputs)[:, (step + 1) * K - 1 : (step + 2) * K - 1]
        for token in range(K):
            drawn = sample_categorical(new_frame[:, token], generator=draws)
            assert torch.equal(prediction.tokens[:, token], drawn)


def test_imagined_frames_follow_the_logits() -> None:
    model, num_rows = build(), 4000
    tokens = random_tokens(1, 1).expand(num_rows, -1, -1)
    actions = torch.ones(num_rows, dtype=torch.long)
    state = model.observe(None, tokens, actions[:, None][:, :0])
    prediction, _ = model.imagine(state, actions, generator=generator())
    expected = model.prediction(model(tokens[:1], actions[:1, None]).outputs)[0, -1].softmax(-1) * num_rows
    counts = Counter(prediction.tokens[:, 0].tolist())
    chi_square = sum((counts[k] - e) ** 2 / e for k, e in enumerate(expected.tolist()))
    assert expected.max() > 1.5 * expected.min(), "the logits say something"
    assert chi_square < 24.3, "7 degrees of freedom, p = 0.001"
    rewards = model.reward_head(model(tokens[:1], actions[:1, None]).at_actions[0, -1]).softmax(-1)
    shares = [(prediction.rewards == sign).float().mean().item() for sign in (-1, 0, 1)]
    assert shares == pytest.approx(rewards.tolist(), abs=0.04)


def test_the_same_seed_imagines_the_same_and_another_does_not() -> None:
    model, actions = build(), random_actions(2)
    one, same, other = (
        model.imagine(start(model), actions, generator=generator(seed))[0].tokens for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class RefusesToLeaveTheDevice(TorchDispatchMode):
    """Raises where a tensor's value would have to be known outside of the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
        return func(*args, **(kwargs or {}))


def test_nothing_leaves_the_device_while_imagining_even_where_memory_is_flushed() -> None:
    model = build(max_blocks=2)
    state, actions = start(model), random_actions(2)
    with RefusesToLeaveTheDevice():
        for step in range(3):
            _, state = model.imagine(state, actions, generator=generator(step))
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            actions.sum().item()


def imagine_steps(model: WorldModel, horizon: int, state: State) -> list[int]:
    """Return the number of tokens in memory after each step; the last one predicts no frame."""
    lengths = []
    for step in range(horizon):
        is_last = step == horizon - 1
        _, state = model.imagine(state, random_actions(2), generator=generator(), predict_frame=not is_last)
        lengths.append(state.memory.length)
    return lengths


def test_twenty_steps_fill_a_window_of_twenty_blocks_exactly() -> None:
    model = build(max_blocks=20)
    lengths = imagine_steps(model, 20, start(model))
    assert lengths == [15 + 17 * step for step in range(1, 20)] + [340]


def test_the_twenty_first_step_forgets_all_but_the_current_frame() -> None:
    model = build(max_blocks=20)
    lengths = imagine_steps(model, 21, start(model))
    assert lengths[18:] == [338, 32, 34]


def test_after_forgetting_only_the_current_frame_counts() -> None:
    model = build(max_blocks=2)
    state = start(model)
    actions = random_actions(2)
    _, state = model.imagine(state, actions, generator=generator(1))
    frame = state.frame
    full, _ = model.imagine(state, actions, generator=generator(2))
    fresh_state = model.observe(None, frame[:, None], actions[:, None][:, :0])
    fresh, _ = model.imagine(fresh_state, actions, generator=generator(2))
    assert torch.equal(full.tokens, fresh.tokens)


def test_observing_step_by_step_equals_observing_at_once() -> None:
    model, tokens, actions = build(), random_tokens(2, 3), random_actions(2, 2)
    at_once = model.observe(None, tokens, actions)
    stepwise = model.observe(None, tokens[:, :1], actions[:, :0])
    for step in range(2):
        stepwise = model.observe(stepwise, tokens[:, step + 1 : step + 2], actions[:, step : step + 1])
    assert stepwise.memory.length == at_once.memory.length == 49
    one, _ = model.imagine(at_once, actions[:, 0], generator=generator())
    other, _ = model.imagine(stepwise, actions[:, 0], generator=generator())
    assert torch.equal(one.tokens, other.tokens)


def test_a_step_without_a_frame_makes_no_token_pass_and_has_no_future() -> None:
    model, actions = build(), random_actions(2)
    lengths_passed = []
    hook = model.backbone.register_forward_pre_hook(
        lambda _, inputs: lengths_passed.append(inputs[0].shape[1])
    )
    prediction, state = model.imagine(start(model), actions, generator=generator(), predict_frame=False)
    hook.remove()
    assert lengths_passed == [15, 2]
    assert prediction.tokens is None
    with pytest.raises(ValueError, match="nothing can follow it"):
        model.imagine(state, actions, generator=generator())


def test_an_imagined_frame_costs_sixteen_passes() -> None:
    model, state = build(), start(build())
    lengths_passed = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: lengths_passed.append(inputs[0].shape[1]))
    model.imagine(state, random_actions(2), generator=generator())
    assert lengths_passed == [2] + [1] * 15
