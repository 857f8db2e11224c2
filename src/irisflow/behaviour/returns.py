"""Targets of the critic, and their range."""

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


def before_end(ends: Bool[Tensor, "batch horizon"]) -> Float[Tensor, "batch horizon"]:
    """Return 1 for the steps up to the first end, the step that ended included, 0 after it."""
    ended_before = ends.cumsum(dim=1) - ends.long()
    return (ended_before == 0).float()


class ReturnRange:
    """How far apart large and small returns are: the 5th and the 95th percentile, averaged over updates.

    Advantages divided by it ask for one entropy weight in games with small and with large rewards. Returns that lie
    closer together than 1 are left as they are. Hafner et al. 2023 (DreamerV3), section "Actor learning".
    """

    def __init__(self, device: torch.device, *, decay: float = 0.99) -> None:
        self.decay = decay
        self.bounds = torch.zeros(2, device=device)
        self.num_updates = torch.zeros((), device=device)

    @torch.no_grad()
    def update(self, returns: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
        """Return the range, 1 or more, after these returns were seen."""
        levels = torch.tensor([0.05, 0.95], device=returns.device)
        self.bounds = self.decay * self.bounds + (1 - self.decay) * torch.quantile(returns.flatten(), levels)
        self.num_updates = self.num_updates + 1
        low, high = self.bounds / (1 - self.decay**self.num_updates)  # not biased to the zeros of the start
        span: Tensor = (high - low).clamp(min=1.0)
        return span

    def get_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"bounds": self.bounds.clone(), "num_updates": self.num_updates.clone()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Go on where `get_state` was called."""
        self.bounds = state["bounds"].to(self.bounds.device)
        self.num_updates = state["num_updates"].to(self.bounds.device)
