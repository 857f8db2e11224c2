"""What an agent imagines to get against what it gets: near for a world model that knows, and wrong where it must be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import torch
from tiny_catch import CPU, TinyCatch, recorded
from torch import Tensor, nn

from irisflow.behaviour.actor_critics.base import PolicyOutput, PolicyState
from irisflow.behaviour.agent import Agent
from irisflow.evaluation.held_out import HeldOut, held_out
from irisflow.evaluation.optimism import MODE, Futures, optimism, own_futures
from irisflow.records import Episode
from irisflow.world_model.world_model import WorldModel

HORIZON, GAMMA = 5, 0.9


class Uniform(nn.Module):
    """Plays at random, as the recordings do, and expects the same everywhere."""

    num_actions, sees, use_original_obs = 3, "pictures", False

    def __init__(self, expected: float = 0.0) -> None:
        super().__init__()
        self.expected = expected

    def forward(self, views: Tensor, state: PolicyState) -> tuple[PolicyOutput, PolicyState]:
        values = views.new_full((len(views),), self.expected)
        return PolicyOutput(views.new_zeros(len(views), 3), values), state

    def initial_state(self, batch_size: int) -> PolicyState:
        return PolicyState(torch.zeros(batch_size, 1), torch.zeros(batch_size, 1))

    def sequence(self, views: Tensor, state: PolicyState) -> tuple[Tensor, Tensor]:
        shape = views.shape[:2]
        return views.new_zeros(*shape, 3), views.new_full(shape, self.expected)

    def burn_in(self, views: Tensor, mask: Tensor, state: PolicyState | None = None) -> PolicyState:
        return self.initial_state(len(views))


@pytest.fixture(scope="module")
def played(tiny: TinyCatch) -> HeldOut:
    return held_out(tiny.tokenizer, recorded(150, seed=2), time_limit_is_end=True, device=CPU)


def futures(
    tiny: TinyCatch, played: HeldOut, *, world_model: WorldModel | None = None, expected: float = 0.0
) -> Futures:
    agent = Agent(tiny.tokenizer, world_model or tiny.world_model, Uniform(expected)).eval()
    found = own_futures(
        agent,
        played,
        burn_in=2,
        horizon=HORIZON,
        gamma=GAMMA,
        num_starts=300,
        generator=torch.Generator().manual_seed(0),
    )
    assert found is not None
    return found


def gap(found: Futures) -> float:
    return float((found.imagined - found.real).sum(dim=1).mean())


@contextmanager
def flattered(world_model: WorldModel, bonus: tuple[float, float, float]) -> Iterator[None]:
    """Let the reward head add to the logits of -1, 0 and 1."""
    linear = [module for module in world_model.reward_head.modules() if isinstance(module, nn.Linear)][-1]
    kept = linear.bias.detach().clone()
    linear.bias.data += torch.tensor(bonus)
    yield
    linear.bias.data = kept


def test_a_world_model_that_knows_the_game_promises_about_what_comes(
    tiny: TinyCatch, played: HeldOut
) -> None:
    found = futures(tiny, played)
    assert float(found.real.sum(dim=1).mean()) < -0.2, "random play loses more balls than it catches"
    assert abs(gap(found)) < 0.2


@pytest.mark.parametrize(("bonus", "sign"), [((-30.0, 0.0, 30.0), 1), ((30.0, 0.0, -30.0), -1)])
def test_a_flattering_reward_head_is_optimistic_and_a_gloomy_one_pessimistic(
    tiny: TinyCatch, played: HeldOut, bonus: tuple[float, float, float], sign: int
) -> None:
    with flattered(tiny.world_model, bonus):
        assert sign * gap(futures(tiny, played)) > 1


def test_an_untrained_world_model_is_farther_off(tiny: TinyCatch, played: HeldOut) -> None:
    fresh = futures(tiny, played, world_model=tiny.fresh_world_model)
    assert abs(gap(fresh)) > abs(gap(futures(tiny, played))) + 0.1


def test_real_returns_are_those_of_the_play_and_stop_at_its_end(tiny: TinyCatch, played: HeldOut) -> None:
    found = futures(tiny, played)
    assert found.real.abs().sum(dim=1).max() == 1, "a ball, which is an episode, has one reward"
    balls = [episode.rewards.sum() for episode in recorded(150, seed=2)]
    late = found.real[1::2].sum(dim=1)  # starts lie at steps 0 and 5 of a ball of 9
    assert late.tolist() == np.sign(balls)[: len(late)].tolist()


def test_a_critic_that_expects_too_much_is_told_by_how_much(tiny: TinyCatch, played: HeldOut) -> None:
    modest, bold = futures(tiny, played), futures(tiny, played, expected=4.0)
    assert (bold.values - modest.values == 4).all()
    ended = modest.real.abs().sum(dim=1) == 1
    added = bold.targets - modest.targets
    assert added[ended].abs().max() < 1e-6, "nothing comes after an end"
    assert added[~ended].tolist() == pytest.approx([4 * GAMMA**HORIZON] * int((~ended).sum()))


def test_the_measurements_are_means_by_horizon(tiny: TinyCatch, played: HeldOut) -> None:
    found = futures(tiny, played, expected=1.0)
    rows = list(optimism(found))
    imagined = [row.value for row in rows if row.metric == "imagined_return"]
    assert imagined == pytest.approx(found.imagined.cumsum(dim=1).mean(dim=0).tolist())
    assert {(row.mode, row.context) for row in rows if row.horizon} == {(MODE, 1)}
    assert {row.metric: row.value for row in rows}["value"] == 1 and all(row.n == 300 for row in rows)


def test_play_that_is_too_short_gives_nothing(tiny: TinyCatch) -> None:
    (ball,) = recorded(1, seed=3)
    cut = Episode(*(getattr(ball, field.name)[:4] for field in fields(ball)))
    short = held_out(tiny.tokenizer, [cut], time_limit_is_end=True, device=CPU)
    agent = Agent(tiny.tokenizer, tiny.world_model, Uniform()).eval()
    given = {
        "burn_in": 2,
        "horizon": HORIZON,
        "gamma": GAMMA,
        "num_starts": 9,
        "generator": torch.Generator(),
    }
    assert own_futures(agent, short, **given) is None
