"""Targets of the critic."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lambda_returns(
    rewards: Float[Tensor, "batch horizon"],
    values: Float[Tensor, "batch horizon"],
    ends: Bool[Tensor, "batch horizon"],
    *,
    gamma: float,
    lambda_: float,
) -> Float[Tensor, "batch horizon"]:
    """Return the TD(lambda) target of every imagined step.

    `values[:, t]` is the critic's estimate for the observation on which step t acts; the last one
    bootstraps. Nothing flows past an end. IRIS, section 2.3.
    """
    discounts = gamma * (~ends).to(values.dtype)
    following = values[:, -1]
    returns = [following]
    for step in reversed(range(values.shape[1] - 1)):
        mixed = (1 - lambda_) * values[:, step + 1] + lambda_ * following
        following = rewards[:, step] + discounts[:, step] * mixed
        returns.append(following)
    return torch.stack(returns[::-1], dim=1)
