"""The two corrections of IRIS's actor-critic loss, by hand: normalised returns, and steps after an imagined end."""

import pytest
import torch
from parts import configured
from torch import Tensor
from torch.testing import assert_close

from irisflow.behaviour.losses import actor_critic_loss
from irisflow.behaviour.returns import ReturnRange
from irisflow.records import Loss, Rollout

WEIGHTS = {"gamma": 0.5, "lambda_": 1.0, "entropy_weight": 0.1}


def rollout(rewards: Tensor, values: Tensor, ends: Tensor, logits: Tensor | None = None) -> Rollout:
    """Return steps of action 0 among two."""
    batch, horizon = rewards.shape
    return Rollout(
        views=torch.zeros(batch, horizon, 3, 1, 1),
        actions=torch.zeros(batch, horizon, dtype=torch.long),
        logits=torch.zeros(batch, horizon, 2) if logits is None else logits,
        values=values,
        rewards=rewards,
        ends=ends,
    )


def ended() -> Rollout:
    """Row 0 ends at its second step and again at its fourth; row 1 goes on. The last step only bootstraps."""
    rewards = torch.tensor([[1.0, 2.0, 4.0, 8.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    ends = torch.zeros(2, 5, dtype=torch.bool)
    ends[0, 1] = ends[0, 3] = True
    return rollout(
        rewards, torch.zeros(2, 5, requires_grad=True), ends, torch.zeros(2, 5, 2, requires_grad=True)
    )


def terms(loss: Loss) -> dict[str, float]:
    return {name: term.item() for name, term in loss.terms.items()}


LOG2 = 0.6931471805599453


def test_as_in_iris_steps_after_an_imagined_end_train_too() -> None:
    """Row 0's targets are 1 + 2/2, 2, 4 + 8/2, 8; row 1's are 1, 0, 0, 0: eight steps count."""
    found = terms(actor_critic_loss(ended(), **WEIGHTS))
    assert found["actor"] == pytest.approx(LOG2 * (2 + 2 + 8 + 8 + 1) / 8)
    assert found["value"] == pytest.approx((4 + 4 + 64 + 64 + 1) / 8)
    assert found["entropy"] == pytest.approx(-0.1 * LOG2)


def test_with_the_mask_the_step_that_ends_is_the_last_to_train() -> None:
    """Of row 0 two steps count, of row 1 four."""
    imagined = ended()
    loss = actor_critic_loss(imagined, **WEIGHTS, mask_after_end=True)
    found = terms(loss)
    assert found["actor"] == pytest.approx(LOG2 * (2 + 2 + 1) / 6)
    assert found["value"] == pytest.approx((4 + 4 + 1) / 6)
    assert found["entropy"] == pytest.approx(-0.1 * LOG2)
    loss.total.backward()
    for gradient in (imagined.values.grad, imagined.logits.grad[..., 0]):
        assert (gradient[0] != 0).tolist() == [True, True, False, False, False]
    assert imagined.values.grad[1, 0] != 0


def test_where_nothing_ends_the_mask_changes_nothing() -> None:
    values = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    imagined = rollout(torch.ones(3, 6), values, torch.zeros(3, 6, dtype=torch.bool))
    one, other = (actor_critic_loss(imagined, **WEIGHTS, mask_after_end=on) for on in (True, False))
    assert terms(one) == pytest.approx(terms(other))


def test_advantages_are_divided_by_the_range_and_nothing_else_is() -> None:
    """The targets, four a row, are 0, 0, 0, 0 and 20, 20, 20, 20: their range is 20."""
    rewards = torch.tensor([[0.0] * 5, [20.0] * 5])
    imagined = rollout(rewards, torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.bool))
    returns = ReturnRange(torch.device("cpu"))
    plain, normalised = terms(actor_critic_loss(imagined, **WEIGHTS)), None
    normalised = terms(actor_critic_loss(imagined, **WEIGHTS, return_range=returns))
    assert normalised["actor"] == pytest.approx(plain["actor"] / 20, rel=1e-5)
    assert plain["actor"] == pytest.approx(LOG2 * 10)
    assert {k: v for k, v in normalised.items() if k != "actor"} == pytest.approx(
        {k: v for k, v in plain.items() if k != "actor"}
    )


def test_returns_that_lie_close_together_leave_advantages_alone() -> None:
    rewards = torch.tensor([[0.0] * 5, [0.9] * 5])
    imagined = rollout(rewards, torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.bool))
    plain = actor_critic_loss(imagined, **WEIGHTS)
    normalised = actor_critic_loss(imagined, **WEIGHTS, return_range=ReturnRange(torch.device("cpu")))
    assert terms(normalised) == terms(plain)


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the 5th and the 95th percentile, interpolated between the sorted values."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return at(0.05), at(0.95)


def test_the_range_is_that_of_averaged_percentiles_freed_of_their_zero_start() -> None:
    returns, draws = ReturnRange(torch.device("cpu"), decay=0.9), torch.Generator().manual_seed(0)
    low = high = total = 0.0
    for update in range(5):
        seen = 10 * torch.randn(4, 7, generator=draws) + update
        span = returns.update(seen)
        bounds = percentiles(seen.flatten().tolist())
        low, high, total = 0.9 * low + 0.1 * bounds[0], 0.9 * high + 0.1 * bounds[1], 0.9 * total + 0.1
        assert returns.bounds.tolist() == pytest.approx([low, high], rel=1e-4, abs=1e-5)
        assert span.item() == pytest.approx((high - low) / total, rel=1e-4)


def test_outliers_move_the_range_little() -> None:
    one, other = ReturnRange(torch.device("cpu")), ReturnRange(torch.device("cpu"))
    seen = torch.arange(101.0)
    assert one.update(seen).item() == pytest.approx(90, rel=1e-5)
    assert other.update(torch.cat([seen[:-1], torch.tensor([1e6])])).item() == pytest.approx(90, rel=1e-5)


def test_a_range_goes_on_where_its_state_was_taken() -> None:
    one, draws = ReturnRange(torch.device("cpu")), torch.Generator().manual_seed(0)
    one.update(100 * torch.rand(50, generator=draws))
    state = one.get_state()
    other = ReturnRange(torch.device("cpu"))
    other.set_state(state)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    seen = 100 * torch.rand(50, generator=draws)
    assert torch.equal(one.update(seen), other.update(seen))
    for name, tensor in kept.items():
        assert_close(state[name], tensor, rtol=0, atol=0)
    assert not torch.equal(ReturnRange(torch.device("cpu")).update(seen), other.update(seen))


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("iris", (False, False)),
        ("policy_normalised_returns", (True, False)),
        ("policy_masked_after_end", (False, True)),
        ("reward_symlog_twohot", (True, False)),
    ],
)
def test_a_variant_sets_its_switch(name: str, switches: tuple[bool, bool]) -> None:
    training = configured(f"variant={name}").training.actor_critic
    assert (training.normalise_returns, training.mask_after_end) == switches
