"""What the actor-critic minimises. IRIS, section 2.3."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical

from irisflow.behaviour.returns import ReturnRange, before_end, lambda_returns
from irisflow.records import Loss, Rollout

Steps = Float[Tensor, "batch steps"]


def actor_critic_loss(
    rollout: Rollout,
    *,
    gamma: float,
    lambda_: float,
    entropy_weight: float,
    mask_after_end: bool = False,
    return_range: ReturnRange | None = None,
) -> Loss:
    """Return the terms `actor` (REINFORCE with the values as baseline), `value` and `entropy`.

    Each is a mean over all steps but the last, whose value only bootstraps. As in IRIS, steps after an imagined end
    count too, unless `mask_after_end`. With a `return_range`, advantages are divided by it; it is updated.
    """
    values = rollout.values[:, :-1]
    targets = lambda_returns(
        rollout.rewards, rollout.values.detach(), rollout.ends, gamma=gamma, lambda_=lambda_
    )[:, :-1]
    advantages = targets - values.detach()
    if return_range is not None:
        advantages = advantages / return_range.update(targets)
    policy = Categorical(logits=rollout.logits[:, :-1], validate_args=False)
    log_probabilities = policy.log_prob(rollout.actions[:, :-1])  # type: ignore[no-untyped-call]
    entropies = policy.entropy()  # type: ignore[no-untyped-call]
    ones = torch.ones_like(values)
    weights = before_end(rollout.ends)[:, :-1].to(values.dtype) if mask_after_end else ones
    return Loss(
        {
            "actor": -_mean(log_probabilities * advantages, weights),
            "value": _mean((values - targets).square(), weights),
            "entropy": -entropy_weight * _mean(entropies, weights),
        }
    )


def _mean(values: Steps, weights: Steps) -> Float[Tensor, ""]:
    return (values * weights).sum() / weights.sum()
