"""What every actor-critic gives."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class PolicyState:
    """What the policy remembers of the episode so far."""

    hidden: Float[Tensor, "batch hidden"]
    cell: Float[Tensor, "batch hidden"]


@dataclass(frozen=True)
class PolicyOutput:
    """What the policy would do, and what the critic expects from here."""

    logits: Float[Tensor, "batch actions"]
    values: Float[Tensor, " batch"]


@runtime_checkable
class ActorCritic(Protocol):
    """A recurrent module that sees one image at a time."""

    num_actions: int
    use_original_obs: bool  # in real environments, see real frames instead of reconstructions

    def __call__(
        self, observations: Float[Tensor, "batch 3 height width"], state: PolicyState
    ) -> tuple[PolicyOutput, PolicyState]:
        """Return the output on images in [0, 1], and the state after them."""
        ...

    def initial_state(self, batch_size: int) -> PolicyState:
        """Return the state at the start of an episode."""
        ...

    def burn_in(
        self,
        observations: Float[Tensor, "batch time 3 height width"],
        mask: Bool[Tensor, "batch time"],
        state: PolicyState | None = None,
    ) -> PolicyState:
        """Return the state after past images; rows where the mask is false keep theirs. No gradient."""
        ...
