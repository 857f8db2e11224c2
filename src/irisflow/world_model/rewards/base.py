"""What every reward head gives: it reads the reward of a step from the output at its action."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.randomness import Source

SMALLEST_REWARD = 0.5  # what is nearer to 0 than to a reward of 1 counts as none


def signs_of(rewards: Float[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
    """Return -1, 0 or 1 for rewards that may be means; a half counts as 1."""
    return (rewards.sign() * (rewards.abs() >= SMALLEST_REWARD)).long()


@runtime_checkable
class RewardHead(Protocol):
    """A module on the backbone's outputs at actions."""

    def loss(
        self,
        outputs: Float[Tensor, "batch time embed"],
        rewards: Float[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the raw rewards; steps where the mask is false do not count."""
        ...

    def sample(
        self, output: Float[Tensor, "batch embed"], *, generator: Source, greedy: bool = False
    ) -> Float[Tensor, " batch"]:
        """Return the rewards that imagination gives, in float32. `greedy` draws nothing."""
        ...

    def signs(self, outputs: Float[Tensor, "*batch embed"]) -> Int64[Tensor, "*batch"]:
        """Return -1, 0 or 1: what kind of reward is expected. Measurements compare heads by it."""
        ...
