"""What an agent imagines that it will get, against what it gets: the same policy from the same starts.

The agent plays for itself, without exploring. From moments of this play it goes on in imagination, as it does in training,
and in both worlds the signs of the rewards are added up until the episode ends. A world model that flatters its policy
imagines more than there is. Beside it: what the critic expects at these moments, against what came.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine, view_valid
from irisflow.behaviour.returns import before_end
from irisflow.evaluation.held_out import HeldOut
from irisflow.evaluation.world_model_quality import Measurement
from irisflow.records import Batch
from irisflow.world_model.rewards.base import signs_of

MODE = "own_policy"


@dataclass(frozen=True)
class Futures:
    """Signs of rewards that were imagined and that came, 0 after an end; the critic's values and what they should be."""

    imagined: Float[Tensor, "starts horizon"]
    real: Float[Tensor, "starts horizon"]
    values: Float[Tensor, " starts"]
    targets: Float[Tensor, " starts"]


def optimism(futures: Futures) -> Iterator[Measurement]:
    """Yield the mean returns by horizon, `imagined_return` and `real_return`, and the critic's mean value and error.

    `context` is the one real frame that the world model sees; the policy remembers more.
    """
    n = len(futures.values)
    for metric, signs in (("imagined_return", futures.imagined), ("real_return", futures.real)):
        for horizon, value in enumerate(signs.cumsum(dim=1).mean(dim=0).tolist(), start=1):
            yield Measurement(metric, value, n, mode=MODE, context=1, horizon=horizon)
    for metric, numbers in (
        ("value", futures.values),
        ("value_target", futures.targets),
        ("value_error", (futures.values - futures.targets).abs()),
    ):
        yield Measurement(metric, float(numbers.mean()), n)


@torch.no_grad()
def own_futures(
    agent: Agent,
    played: HeldOut,
    *,
    burn_in: int,
    horizon: int,
    gamma: float,
    num_starts: int,
    generator: torch.Generator,
) -> Futures | None:
    """Return both futures of at most `num_starts` moments of the agent's own play; None where nothing is long enough.

    The value's target is the discounted return of the play over the horizon and, unless the episode ended, the value of the
    frame after it. The agent must be in eval mode.
    """
    starts = _starts(played, horizon=horizon, num_starts=num_starts)
    if not len(starts):
        return None
    last = played.last_step[starts][:, None]
    past = _past(played, starts, burn_in)
    rollout = imagine(agent, past, horizon=horizon, generator=generator)
    steps = starts[:, None] + torch.arange(horizon + 1, device=starts.device)
    real = played.signs[steps[:, :-1].minimum(last)] * (steps[:, :-1] <= last)
    values = _values(agent, played, past, steps.minimum(last))
    discounts = gamma ** torch.arange(horizon + 1, device=starts.device)
    following = values[:, -1] * (steps[:, -1:] <= last).squeeze(1)
    return Futures(
        imagined=signs_of(rollout.rewards).float() * before_end(rollout.ends),
        real=real.float(),
        values=values[:, 0],
        targets=(real * discounts[:-1]).sum(dim=1) + discounts[-1] * following,
    )


def _starts(played: HeldOut, *, horizon: int, num_starts: int) -> Int64[Tensor, " starts"]:
    """Return steps whose futures do not overlap and are known: up to the horizon, or to an end before it."""
    steps = torch.arange(len(played), device=played.actions.device)
    is_known = (steps + horizon <= played.last_step) | played.ends[played.last_step]
    candidates = steps[((steps - played.first_step) % horizon == 0) & is_known]
    if not len(candidates):
        return candidates
    picked = np.linspace(0, len(candidates) - 1, min(num_starts, len(candidates))).round().astype(np.int64)
    return candidates[torch.from_numpy(picked).to(candidates.device)]


def _past(played: HeldOut, starts: Int64[Tensor, " starts"], burn_in: int) -> Batch:
    """Return each start's frame and those before it in its episode, padded on the left, as tokens."""
    steps = starts[:, None] + torch.arange(-burn_in, 1, device=starts.device)
    first = played.first_step[starts][:, None]
    mask = steps >= first
    nothing = torch.zeros_like(steps)
    tokens = played.tokens[steps.maximum(first)]
    return Batch(None, nothing, nothing.float(), nothing.bool(), mask, tokens=tokens)


def _values(
    agent: Agent, played: HeldOut, past: Batch, steps: Int64[Tensor, "starts time"]
) -> Float[Tensor, "starts time"]:
    """Return what the critic expects at the steps that follow the past."""
    assert past.tokens is not None
    seen = view_valid(agent, past.tokens[:, :-1], past.mask[:, :-1])
    state = agent.actor_critic.burn_in(seen, past.mask[:, :-1])
    views = view_valid(agent, played.tokens[steps], torch.ones_like(steps, dtype=torch.bool))
    return agent.actor_critic.sequence(views, state)[1].float()
