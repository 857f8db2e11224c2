"""The contract of `world_model/prediction/base.py`, for every prediction on every backbone; what each one is."""

import math
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from parts import NUM_ACTIONS, configured
from test_world_model import RefusesToLeaveTheDevice
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.plainly import as_torch_does
from irisflow.records import TokenBatch
from irisflow.training.optim import decay_groups
from irisflow.world_model.prediction.base import Pass
from irisflow.world_model.prediction.masked import masked_after
from irisflow.world_model.world_model import State, WorldModel, build_world_model

K, VOCAB = 16, 32
PAIRS = [(p, b) for p in variants.available("prediction") for b in variants.available("backbone")]
WHOLE_FRAMES = ("parallel", "masked")  # predictions that leave the whole frame pending

every_pair = pytest.mark.parametrize(
    ("prediction", "backbone"), PAIRS, ids=["-".join(pair) for pair in PAIRS]
)


@cache
def composed(*overrides: str) -> Any:
    """Return a world model's settings."""
    return configured(*overrides).world_model


def build(prediction: str, backbone: str = "gpt", *overrides: str) -> WorldModel:
    """Return a world model in eval mode whose predictions are neither uniform nor certain and differ between contexts."""
    settings = composed(f"prediction={prediction}", f"backbone={backbone}", *overrides)
    torch.manual_seed(0)
    model = build_world_model(settings, vocab_size=VOCAB, num_actions=NUM_ACTIONS, tokens_per_frame=K)
    with torch.no_grad():
        for part in (model.prediction, model.embedding):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * min(0.3, 1.7 * parameter.shape[-1] ** -0.5))
    return model.eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(*shape: int) -> Tensor:
    return torch.randint(VOCAB, (*shape, K), generator=generator(1))


def chosen(*shape: int) -> Tensor:
    return torch.randint(NUM_ACTIONS, shape, generator=generator(2))


def batch_of(time: int = 3) -> TokenBatch:
    """Return two segments; the second one ends a step earlier."""
    mask = torch.ones(2, time, dtype=torch.bool)
    mask[1, -1] = False
    tokens, actions = frames(2, time) * mask[..., None], chosen(2, time) * mask
    return TokenBatch(tokens, actions, torch.zeros(2, time), torch.zeros_like(mask), mask)


def observation_loss(model: WorldModel, batch: TokenBatch) -> Tensor:
    return model.loss(batch).terms["observation"]


def start(model: WorldModel, batch_size: int = 2) -> State:
    return model.observe(None, frames(batch_size, 1), chosen(batch_size, 0))


@every_pair
def test_the_loss_is_finite_and_all_parameters_of_the_prediction_learn(
    prediction: str, backbone: str
) -> None:
    model = build(prediction, backbone).train()
    loss = observation_loss(model, batch_of())
    loss.backward()
    assert loss.isfinite() and loss > 0
    learning = dict(model.prediction.named_parameters())
    assert [name for name, p in learning.items() if p.grad is None or not p.grad.any()] == []
    groups = decay_groups(model, weight_decay=0.01)
    assert {id(p) for p in learning.values()} <= {id(p) for group in groups for p in group["params"]}


@every_pair
def test_a_first_frame_alone_has_a_finite_loss(prediction: str, backbone: str) -> None:
    model, batch = build(prediction, backbone), batch_of(time=1)
    only = TokenBatch(
        batch.tokens, batch.actions, batch.rewards, batch.ends, torch.ones(2, 1, dtype=torch.bool)
    )
    assert observation_loss(model, only).isfinite()


@every_pair
def test_padding_changes_no_loss(prediction: str, backbone: str) -> None:
    model, batch = build(prediction, backbone), batch_of()
    tokens = torch.where(batch.mask[..., None], batch.tokens, 3)
    actions = torch.where(batch.mask, batch.actions, 2)
    other = TokenBatch(tokens, actions, batch.rewards, batch.ends, batch.mask)
    assert_close(observation_loss(model, other), observation_loss(model, batch))


@every_pair
def test_a_sampled_frame_is_one_of_tokens_and_its_seed_decides_it(prediction: str, backbone: str) -> None:
    model = build(prediction, backbone)
    one, same, other = (
        model.imagine(start(model), chosen(2), generator=generator(seed))[0].tokens for seed in (0, 0, 1)
    )
    assert one.shape == (2, K) and one.dtype == torch.long
    assert one.min() >= 0 and one.max() < VOCAB
    assert torch.equal(one, same) and not torch.equal(one, other)


@every_pair
def test_a_greedy_frame_draws_nothing(prediction: str, backbone: str) -> None:
    model, draws = build(prediction, backbone), generator()
    before = draws.get_state()
    one, _ = model.imagine(start(model), chosen(2), generator=draws, greedy=True)
    assert torch.equal(draws.get_state(), before)
    other, _ = model.imagine(start(model), chosen(2), generator=generator(5), greedy=True)
    assert torch.equal(one.tokens, other.tokens)


@every_pair
def test_imagining_moves_no_global_stream_and_nor_does_measuring_a_loss(
    prediction: str, backbone: str
) -> None:
    model = build(prediction, backbone)
    before = torch.get_rng_state()
    model.imagine(start(model), chosen(2), generator=generator())
    assert_close(observation_loss(model, batch_of()), observation_loss(model, batch_of()), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def assert_same_future(model: WorldModel, one: State, other: State) -> None:
    """Both states hold as much, and two imagined steps from them are the same."""
    for step in range(2):
        assert (one.memory is None) == (other.memory is None)
        assert one.memory is None or one.memory.length == other.memory.length
        predicted, one = model.imagine(one, chosen(2), generator=generator(step))
        again, other = model.imagine(other, chosen(2), generator=generator(step))
        assert torch.equal(predicted.tokens, again.tokens)
        assert torch.equal(predicted.rewards, again.rewards)


def observed_stepwise(model: WorldModel, tokens: Tensor, actions: Tensor) -> State:
    state = model.observe(None, tokens[:, :1], actions[:, :0])
    for step in range(tokens.shape[1] - 1):
        state = model.observe(state, tokens[:, step + 1 : step + 2], actions[:, step : step + 1])
    return state


@every_pair
def test_observing_step_by_step_equals_observing_at_once(prediction: str, backbone: str) -> None:
    model, tokens, actions = build(prediction, backbone), frames(2, 2), chosen(2, 1)
    at_once = model.observe(None, tokens, actions)
    assert_same_future(model, at_once, observed_stepwise(model, tokens, actions))


@every_pair
def test_an_imagined_frame_counts_as_one_that_was_observed(prediction: str, backbone: str) -> None:
    model, actions = build(prediction, backbone), chosen(2, 1)
    imagined, state = model.imagine(start(model), actions[:, 0], generator=generator(3))
    seen = torch.stack([frames(2, 1)[:, 0], imagined.tokens], dim=1)
    assert_same_future(model, state, model.observe(None, seen, actions))


@every_pair
def test_the_likeliest_tokens_are_those_of_all_frames_but_the_first(prediction: str, backbone: str) -> None:
    model, tokens, actions = build(prediction, backbone), frames(2, 3), chosen(2, 3)
    likeliest = model.prediction.likeliest(model(tokens, actions), tokens)
    assert likeliest.shape == (2, 2, K) and likeliest.dtype == torch.long
    state = model.observe(None, tokens[:, :2], actions[:, :1])
    greedy = model.imagine(state, actions[:, 1], generator=generator(), greedy=True)[0].tokens
    num_same = K if prediction in WHOLE_FRAMES else 1  # autoregressive: the others are given real ones
    assert torch.equal(likeliest[:, -1, :num_same], greedy[:, :num_same])


@every_pair
def test_nothing_leaves_the_device_while_imagining_even_where_memory_is_flushed(
    prediction: str, backbone: str
) -> None:
    model = build(prediction, backbone)
    state, actions = start(model), chosen(2)
    with RefusesToLeaveTheDevice():
        for step in range(6):  # the window is 4 blocks
            _, state = model.imagine(state, actions, generator=generator(step))


@every_pair
def test_losses_and_frames_are_as_good_in_bfloat16(prediction: str, backbone: str) -> None:
    model = build(prediction, backbone)
    with torch.autocast("cpu", torch.bfloat16):
        loss = observation_loss(model, batch_of())
        predicted, _ = model.imagine(start(model), chosen(2), generator=generator())
    assert loss.dtype == torch.float32
    assert_close(loss, observation_loss(model, batch_of()), rtol=0.1, atol=0.05)
    assert predicted.tokens.shape == (2, K)


def passes_of(model: WorldModel) -> list[int]:
    """Return a list that will hold the length of every pass of the backbone."""
    lengths: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    return lengths


@pytest.mark.parametrize(
    ("prediction", "lengths"), [("autoregressive", [2] + [1] * 15), ("parallel", [17, 16]), ("masked", [17])]
)
def test_an_imagined_frame_costs_the_backbone_these_passes(prediction: str, lengths: list[int]) -> None:
    model = build(prediction)
    _, state = model.imagine(start(model), chosen(2), generator=generator())
    found = passes_of(model)
    with as_torch_does():  # a kernel makes the passes of a frame's tokens in one call
        model.imagine(state, chosen(2), generator=generator())
    assert found == lengths


@pytest.mark.parametrize("prediction", WHOLE_FRAMES)
def test_twenty_steps_fill_a_window_of_twenty_blocks_and_the_next_forgets(prediction: str) -> None:
    model = build(prediction, "gpt", "world_model.max_blocks=20")
    state, lengths = start(model), []
    for step in range(21):
        _, state = model.imagine(state, chosen(2), generator=generator(), predict_frame=step not in (19, 20))
        lengths.append(state.memory.length)
        state = State(state.memory, frames(2)) if state.frame is None else state
    assert lengths == [17 * blocks for blocks in range(1, 21)] + [17]


@pytest.mark.parametrize("prediction", WHOLE_FRAMES)
def test_where_blocks_see_themselves_whole_imagination_still_follows_what_was_learned(
    prediction: str,
) -> None:
    model = build(prediction, "gpt", "world_model.attention=block_causal")
    tokens, actions = frames(2, 3), chosen(2, 3)
    at_once = model.observe(None, tokens, actions[:, :2])
    assert_same_future(model, at_once, observed_stepwise(model, tokens, actions[:, :2]))
    likeliest = model.prediction.likeliest(model(tokens, actions), tokens)
    state = model.observe(None, tokens[:, :2], actions[:, :1])
    greedy = model.imagine(state, actions[:, 1], generator=generator(), greedy=True)[0].tokens
    assert torch.equal(likeliest[:, -1], greedy)


@pytest.mark.parametrize("attention", ["causal", "block_causal"])
def test_the_parallel_loss_is_that_of_one_pass_for_each_frame_with_the_queries_after_its_past(
    attention: str,
) -> None:
    model, batch = build("parallel", "gpt", f"world_model.attention={attention}"), batch_of(4)
    losses = []
    for row in range(2):
        for step in range(1, int(batch.mask[row].sum())):
            past = model.embedding(batch.tokens[row : row + 1, :step], batch.actions[row : row + 1, :step])
            asked = torch.cat([past, model.prediction.queries.weight[None]], dim=1)
            logits = model.prediction.head(model.backbone(asked)[0][0, -K:])
            losses += [
                -logits[place].log_softmax(-1)[batch.tokens[row, step, place]].item() for place in range(K)
            ]
    assert len(losses) == 5 * K
    assert observation_loss(model, batch).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize(("prediction", "overrides"), [("parallel", []), ("masked", ["num_passes=1"])])
def test_frames_drawn_in_one_pass_follow_the_teacher_forced_probabilities(
    prediction: str, overrides: list[str]
) -> None:
    model = build(prediction, "gpt", *(f"world_model.prediction.{override}" for override in overrides))
    num_rows = 4000
    tokens, actions = frames(1, 2), chosen(1, 2)
    state = model.observe(None, tokens[:, :1].expand(num_rows, -1, -1), actions[:, :0].expand(num_rows, -1))
    predicted, _ = model.imagine(state, actions[:, 0].expand(num_rows), generator=generator())
    seen = model(tokens, actions)
    if prediction == "parallel":
        logits = model.prediction(seen)[0, 0]
    else:
        nothing = torch.ones(1, K, dtype=torch.bool)
        logits = model.prediction(tokens[:, 1], nothing, seen.at_actions[:, 0])[0]
    for place in (0, 7, 15):
        expected = logits[place].softmax(-1) * num_rows
        counts = Counter(predicted.tokens[:, place].tolist())
        large = [k for k, e in enumerate(expected.tolist()) if e >= 5]
        chi_square = sum((counts[k] - expected[k].item()) ** 2 / expected[k].item() for k in large)
        assert len(large) > 3 and expected.max() > 1.5 * num_rows / VOCAB, "the logits say something"
        assert chi_square < len(large) + 3.3 * math.sqrt(2 * len(large)), "about p = 0.001"


def test_the_cosine_schedule_leaves_this_many_tokens_masked() -> None:
    assert masked_after(16, 4) == [15, 12, 7, 0]
    assert masked_after(16, 1) == [0]
    assert masked_after(4, 4) == [3, 2, 1, 0]
    assert masked_after(256, 8) == [252, 237, 213, 182, 143, 98, 50, 0]
    for num_passes in range(1, 17):
        counts = [16, *masked_after(16, num_passes)]
        assert len(counts) == num_passes + 1 and all(a > b for a, b in pairwise(counts))


def decoded_slowly(
    model: WorldModel, output: Tensor, num_passes: int, draws: torch.Generator | None
) -> list[int]:
    """Return one frame by MaskGIT's algorithm, position by position."""
    prediction, frame = model.prediction, [-1] * K
    for done in range(1, num_passes + 1):
        masked = [place for place in range(K) if frame[place] < 0]
        tokens = torch.tensor([[max(token, 0) for token in frame]])
        logits = prediction(tokens, torch.tensor([[token < 0 for token in frame]]), output[None])[0]
        numbers = None if draws is None else drawn((K,), draws)
        chance = torch.zeros(K) if draws is None else -(-drawn((K,), draws).log()).log()
        found = {
            place: int(logits[place].argmax()) if numbers is None else class_at(numbers[place], logits[place])
            for place in masked
        }
        temperature = 4.5 * (1 - done / num_passes)
        confidence = {
            place: float(logits[place].log_softmax(-1)[token] + temperature * chance[place])
            for place, token in found.items()
        }
        left = math.ceil(K * math.cos(math.pi / 2 * done / num_passes)) if done < num_passes else 0
        num_kept = max(1, len(masked) - left)
        for place in sorted(masked, key=confidence.__getitem__, reverse=True)[:num_kept]:
            frame[place] = found[place]
    return frame


def drawn(shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=draws)


def class_at(number: Tensor, logits: Tensor) -> int:
    """Return the first class at which the probabilities, added up, exceed a number."""
    return int((logits.double().softmax(-1).cumsum(-1) > number).int().argmax())


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("num_passes", [1, 4, 8])
@torch.no_grad()
def test_masked_frames_are_decoded_as_maskgit_says(greedy: bool, num_passes: int) -> None:
    model = build("masked", "gpt", f"world_model.prediction.num_passes={num_passes}")
    for seed in range(5):
        output = torch.randn(model.backbone.embed_dim, generator=generator(seed))
        draws, again = (None, None) if greedy else (generator(seed), generator(seed))
        found = model.prediction.decoded(output[None], generator=draws)
        assert found[0].tolist() == decoded_slowly(model, output, num_passes, again)


def masks_of(model: WorldModel, num_frames: int) -> Tensor:
    """Return which tokens a loss masks, as the prediction's own forward is told."""
    told: list[Tensor] = []
    hook = model.prediction.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    time = num_frames + 1
    blocks = torch.zeros(1, time, K + 1, model.backbone.embed_dim)
    with torch.no_grad():
        model.prediction.loss(
            Pass(blocks),
            torch.zeros(1, time, K, dtype=torch.long),
            torch.ones(1, time, dtype=torch.bool),
        )
    hook.remove()
    return told[0]


def test_training_masks_a_cosine_share_of_each_frame_at_places_all_as_likely() -> None:
    model = build("masked").train()
    torch.manual_seed(3)
    masks = masks_of(model, 1500)
    counts = masks.sum(dim=1)
    for most in (1, 4, 8, 12, 15):
        share = 1 - 2 / math.pi * math.acos(most / K)  # of u for which cos(pi/2 u) K is `most` or less
        assert (counts <= most).float().mean().item() == pytest.approx(share, abs=0.05)
    assert counts.min() >= 1 and (counts == K).any()
    by_place = masks.float().mean(dim=0)
    assert (by_place - by_place.mean()).abs().max() < 0.05
    assert not torch.equal(masks, masks_of(model, 1500)), "drawn anew"
    torch.manual_seed(3)
    assert torch.equal(masks, masks_of(model, 1500)), "by the global generator"


@torch.no_grad()
def test_the_masked_loss_is_a_mean_over_masked_tokens_only() -> None:
    model, batch = build("masked"), batch_of(3)
    told: list[tuple[Tensor, ...]] = []
    hook = model.prediction.register_forward_pre_hook(lambda _, inputs: told.append(inputs))
    loss = observation_loss(model, batch).item()
    hook.remove()
    _, is_masked, condition = told[0]
    at_actions = model(batch.tokens, batch.actions).at_actions
    losses = []
    for row, step, frame in [(0, 1, 0), (0, 2, 1), (1, 1, 2)]:  # the fourth is padding
        assert_close(condition[frame], at_actions[row, step - 1])
        logits = model.prediction(
            batch.tokens[row, step][None], is_masked[frame][None], at_actions[row, step - 1][None]
        )[0]
        losses += [
            -logits[place].log_softmax(-1)[batch.tokens[row, step, place]].item()
            for place in range(K)
            if is_masked[frame, place]
        ]
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@torch.no_grad()
def test_masked_tokens_are_hidden_and_the_others_are_seen_from_all_places() -> None:
    prediction = build("masked").prediction
    tokens, is_masked = frames(1), torch.arange(K)[None] % 2 == 0
    output = torch.randn(1, 32, generator=generator())
    logits = prediction(tokens, is_masked, output)
    other = torch.where(is_masked, (tokens + 1) % VOCAB, tokens)
    assert torch.equal(prediction(other, is_masked, output), logits)
    for place in (1, 15):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % VOCAB
        assert (prediction(changed, is_masked, output) - logits).abs().amax(dim=-1).min() > 1e-5
    assert (prediction(tokens, is_masked, output + 1) - logits).abs().amax(dim=-1).min() > 1e-5


def test_several_passes_draw_tokens_that_go_together_where_one_pass_cannot() -> None:
    """All 6 tokens of a frame are the same one, any of 4: drawn independently, they agree once in 1024."""
    torch.manual_seed(0)
    settings = {"name": "masked", "num_layers": 1, "num_heads": 2, "dropout": 0.0, "num_passes": 6}
    prediction = variants.build("prediction", settings, embed_dim=32, vocab_size=4, tokens_per_frame=6)
    optimizer = torch.optim.Adam(prediction.parameters(), lr=1e-2)
    past, mask = torch.zeros(1, 33, 7, 32), torch.ones(1, 33, dtype=torch.bool)
    for _ in range(80):
        tokens = torch.randint(4, (1, 33, 1)).expand(-1, -1, 6)
        optimizer.zero_grad()
        prediction.loss(Pass(past), tokens, mask).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = prediction.eval().decoded(past[0, :, -1], generator=generator())
    assert (drawn == drawn[:, :1]).all(dim=1).float().mean() > 0.8
    assert len(drawn[:, 0].unique()) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("num_passes=17", r"world_model\.prediction\.num_passes is 17; allowed: 1 to 16"),
        ("num_heads=5", r"world_model\.prediction\.num_heads: 5 heads do not divide .* 32"),
        ("dropout=1.5", r"world_model\.prediction\.dropout is 1\.5; allowed: 0 to 1"),
        ("num_passes=0", r"world_model\.prediction\.num_passes is 0; allowed: 1 or more"),
        ("choice_temperature=-1", r"choice_temperature is -1\.0; allowed: 0 or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("masked", "gpt", f"world_model.prediction.{changed}")
