"""The contract of `world_model/rewards/base.py`, for every reward head; what symlog two-hot is."""

import math
from functools import cache

import pytest
import torch
from parts import NUM_ACTIONS, configured, settings_of
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.training.optim import decay_groups
from irisflow.world_model.rewards.base import RewardHead
from irisflow.world_model.rewards.symlog_twohot import SymlogTwohot, symexp
from irisflow.world_model.world_model import build_world_model

HEADS = variants.available("reward")
EMBED = 16

every_head = pytest.mark.parametrize("name", HEADS)


def fresh(name: str, **changes: object) -> RewardHead:
    torch.manual_seed(0)
    head: RewardHead = variants.build("reward", {**settings_of("reward", name), **changes}, embed_dim=EMBED)
    return head


@cache
def learned(name: str) -> RewardHead:
    """Return a head that has seen outputs with a reward of their first number's sign, or none where that is small."""
    head = fresh(name)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    outputs = outputs_of(64, 8)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(outputs, rewards_of(outputs), torch.ones(64, 8, dtype=torch.bool)).backward()
        optimizer.step()
    return head


def outputs_of(*shape: int) -> Tensor:
    return torch.randn(*shape, EMBED, generator=generator(1))


def rewards_of(outputs: Tensor) -> Tensor:
    first = outputs[..., 0]
    return first.sign() * (first.abs() > 0.7)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_head
def test_the_loss_is_finite_falls_and_all_parameters_learn(name: str) -> None:
    head, trained = fresh(name), learned(name)
    outputs, mask = outputs_of(64, 8), torch.ones(64, 8, dtype=torch.bool)
    loss, later = (one.loss(outputs, rewards_of(outputs), mask) for one in (head, trained))
    assert loss.isfinite() and later < 0.5 * loss
    trained.zero_grad()
    trained.loss(outputs, rewards_of(outputs), mask).backward()
    assert [n for n, p in trained.named_parameters() if p.grad is None or not p.grad.any()] == []
    groups = decay_groups(trained, weight_decay=0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(trained.parameters()))


@every_head
def test_padding_changes_no_loss(name: str) -> None:
    head, outputs = learned(name), outputs_of(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rewards = rewards_of(outputs)
    other = torch.where(mask, rewards, 7.0)
    assert_close(head.loss(outputs, other, mask), head.loss(outputs, rewards, mask))
    alone = [
        head.loss(outputs[row, :length][None], rewards[row, :length][None], mask[row, :length][None])
        for row, length in ((0, 3), (1, 1))
    ]
    assert_close(head.loss(outputs, rewards, mask), (3 * alone[0] + alone[1]) / 4)


@every_head
def test_sampled_rewards_are_finite_float32_and_their_seed_decides_them(name: str) -> None:
    head, outputs = learned(name), outputs_of(50)
    one, same = (head.sample(outputs, generator=generator(seed)) for seed in (0, 0))
    assert one.shape == (50,) and one.dtype == torch.float32 and one.isfinite().all()
    assert torch.equal(one, same)
    with torch.autocast("cpu", torch.bfloat16):
        assert head.sample(outputs, generator=generator()).dtype == torch.float32


@every_head
def test_greedy_rewards_draw_nothing(name: str) -> None:
    head, draws = learned(name), generator()
    before = draws.get_state()
    head.sample(outputs_of(50), generator=draws, greedy=True)
    assert torch.equal(draws.get_state(), before)


@every_head
def test_signs_are_those_of_the_rewards_that_were_learned(name: str) -> None:
    head, outputs = learned(name), outputs_of(40, 10)
    signs = head.signs(outputs)
    assert signs.shape == (40, 10) and signs.dtype == torch.long
    assert set(signs.unique().tolist()) == {-1, 0, 1}
    is_clear = (outputs[..., 0].abs() - 0.7).abs() > 0.2
    assert (signs == rewards_of(outputs))[is_clear].float().mean() > 0.85


@every_head
def test_a_world_model_learns_and_imagines_with_the_head(name: str) -> None:
    settings = configured(f"reward={name}")
    model = build_world_model(
        settings.world_model, vocab_size=32, num_actions=NUM_ACTIONS, tokens_per_frame=16
    )
    assert isinstance(model.reward_head, RewardHead)
    frame, action = torch.zeros(3, 1, 16, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    state = model.eval().observe(None, frame, action[:, None][:, :0])
    prediction, _ = model.imagine(state, action, generator=generator())
    assert prediction.rewards.shape == (3,) and prediction.rewards.isfinite().all()


def twohot(*, num_bins: int = 255, bound: float = 20.0) -> SymlogTwohot:
    head = fresh("symlog_twohot", num_bins=num_bins, bound=bound)
    assert isinstance(head, SymlogTwohot)
    return head


def symlog_of(value: float) -> float:
    return math.copysign(math.log(1 + abs(value)), value)


def encoded_slowly(value: float, bins: list[float]) -> list[float]:
    """Return the two-hot weights of DreamerV3's definition: each of both neighbours gets the distance to the other."""
    weights = [0.0] * len(bins)
    value = min(max(value, bins[0]), bins[-1])
    for k in range(len(bins) - 1):
        if bins[k] <= value <= bins[k + 1]:
            width = abs(bins[k + 1] - bins[k])
            weights[k] = abs(bins[k + 1] - value) / width
            weights[k + 1] = abs(value - bins[k]) / width
            return weights
    raise AssertionError(value)


def test_symexp_undoes_symlog() -> None:
    values = [-1e6, -3.0, -0.01, 0.0, 0.01, 0.5, 1.0, 400.0]
    found = symexp(torch.tensor([symlog_of(value) for value in values], dtype=torch.float64))
    assert found.tolist() == pytest.approx(values, rel=1e-9)


def test_255_bins_are_evenly_spaced_from_minus_20_to_20_in_symlog_space() -> None:
    bins = twohot().bins
    places = [symlog_of(value) for value in bins.tolist()]
    assert places == pytest.approx([-20 + 40 * k / 254 for k in range(255)], abs=1e-4)
    assert bins[127] == 0 and torch.equal(bins, -bins.flip(0))


VALUES = [0.0, 1.0, -1.0, 0.3, 0.1, 7.0, -200.0, 12345.0, 1e12, -1e12]


def test_a_reward_is_shared_between_the_two_bins_around_it_and_is_their_mean() -> None:
    head = twohot()
    weights = head.encode(torch.tensor(VALUES))
    bins = head.bins.double().tolist()
    for value, found in zip(VALUES, weights, strict=True):
        assert found.tolist() == pytest.approx(encoded_slowly(value, bins), abs=1e-4)
        assert found.sum().item() == pytest.approx(1) and found.min() >= 0 and (found > 0).sum() <= 2
    clamped = [min(max(value, bins[0]), bins[-1]) for value in VALUES]
    assert head.decode(weights).tolist() == pytest.approx(clamped, rel=1e-5, abs=1e-6)


def test_the_predicted_reward_is_the_mean_of_the_bins_and_not_the_mean_of_their_symlogs() -> None:
    head = twohot(num_bins=21, bound=5.0)
    probabilities = torch.randn(6, 21, generator=generator()).softmax(-1)
    slow = [
        sum(p * v for p, v in zip(row, head.bins.tolist(), strict=True)) for row in probabilities.tolist()
    ]
    assert head.decode(probabilities).tolist() == pytest.approx(slow, rel=1e-4)
    half_of_100 = (head.encode(torch.tensor([0.0])) + head.encode(torch.tensor([100.0]))) / 2
    assert head.decode(half_of_100).item() == pytest.approx(50, rel=1e-5)


def test_a_new_head_expects_exactly_nothing_whatever_it_sees() -> None:
    head, outputs = twohot(), 100 * outputs_of(20)
    assert not head.sample(outputs, generator=generator()).any()
    assert not head.signs(outputs).any()
    assert head.loss(outputs[None], torch.ones(1, 20), torch.ones(1, 20, dtype=torch.bool)).item() == (
        pytest.approx(math.log(255), rel=1e-5)
    )


def test_the_loss_is_the_cross_entropy_with_the_two_hot_rewards() -> None:
    head, outputs = learned("symlog_twohot"), outputs_of(1, 5)
    rewards = [3.0, 0.0, -1.0, 0.25, 600.0]
    bins, losses = head.bins.double().tolist(), []
    for step, reward in enumerate(rewards):
        logs = head(outputs[0, step]).log_softmax(-1).tolist()
        losses.append(-sum(w * log for w, log in zip(encoded_slowly(reward, bins), logs, strict=True)))
    found = head.loss(outputs, torch.tensor([rewards]), torch.ones(1, 5, dtype=torch.bool))
    assert found.item() == pytest.approx(sum(losses) / 5, rel=1e-4)


def test_it_learns_how_large_rewards_are_and_means_where_they_vary() -> None:
    head, num_updates = twohot(), 300
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_updates)
    kinds, mask = 10 * torch.eye(4, EMBED)[None], torch.ones(1, 4, dtype=torch.bool)
    for update in range(num_updates):
        rewards = torch.tensor([[0.0, 1.0, -30.0, 200.0 * (update % 4 == 0)]])
        optimizer.zero_grad()
        head.loss(kinds, rewards, mask).backward()
        optimizer.step()
        schedule.step()
    expected = head.sample(kinds[0], generator=generator()).tolist()
    assert expected[:3] == pytest.approx([0, 1, -30], rel=0.05, abs=0.1)
    assert expected[3] == pytest.approx(50, rel=0.1)


def test_signs_change_at_a_half() -> None:
    head = twohot()
    for reward, sign in [(-0.6, -1), (-0.4, 0), (0.4, 0), (0.6, 1), (30.0, 1)]:
        with torch.no_grad():
            head[-1].bias.copy_(head.encode(torch.tensor([reward]))[0].clamp(min=1e-30).log())
        assert head.sample(outputs_of(1), generator=generator()).item() == pytest.approx(reward, rel=1e-3)
        assert head.signs(outputs_of(1)).tolist() == [sign]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("num_bins=254", r"world_model\.reward\.num_bins is 254; allowed: an odd number"),
        ("num_bins=1", r"world_model\.reward\.num_bins is 1; allowed: 3 or more"),
        ("bound=0", r"world_model\.reward\.bound is 0\.0; allowed: 0\.001 or more"),
        ("bound=50", r"world_model\.reward\.bound is 50\.0; allowed: up to 40"),
    ],
)
def test_bins_that_cannot_be_are_refused(changed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings = settings_of("reward", "symlog_twohot", f"world_model.reward.{changed}")
        variants.build("reward", settings, embed_dim=EMBED)
