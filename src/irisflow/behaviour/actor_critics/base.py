"""What every actor-critic gives."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

Views = Float[Tensor, "batch channels rows columns"]  # pictures or maps of codes


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
    """A recurrent module that sees one view of a frame at a time: its picture, or the map of its codes.

    A module is built with `num_actions`, the `resolution` of pictures, and the shape `code_map` (embed, grid, grid).
    """

    num_actions: int
    sees: Literal["pictures", "codes"]  # what `Agent.view` gives it
    use_original_obs: bool  # in real environments, see real frames instead of reconstructions

    def __call__(self, views: Views, state: PolicyState) -> tuple[PolicyOutput, PolicyState]:
        """Return the output on pictures in [0, 1] or on code maps, and the state after them."""
        ...

    def initial_state(self, batch_size: int) -> PolicyState:
        """Return the state at the start of an episode."""
        ...

    def sequence(
        self, views: Float[Tensor, "batch time channels rows columns"], state: PolicyState
    ) -> tuple[Float[Tensor, "batch time actions"], Float[Tensor, "batch time"]]:
        """Return logits and values on one view after another: what calls one by one return."""
        ...

    def burn_in(
        self,
        views: Float[Tensor, "batch time channels rows columns"],
        mask: Bool[Tensor, "batch time"],
        state: PolicyState | None = None,
    ) -> PolicyState:
        """Return the state after past views; rows where the mask is false keep theirs. No gradient."""
        ...
