"""The sign of the reward, as one of three classes. IRIS, section 2.2."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.randomness import Source, sample_categorical
from irisflow.world_model import heads
from irisflow.world_model.heads import Head, cross_entropy
from irisflow.world_model.weights import initialise


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, *, embed_dim: int) -> "SignHead":
    """Return the head."""
    del config
    return SignHead(embed_dim)


class SignHead(Head):
    """Classes 0, 1 and 2 stand for -1, 0 and 1."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim, 3)
        self.apply(initialise)

    def loss(
        self,
        outputs: Float[Tensor, "batch time embed"],
        rewards: Float[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the rewards' signs."""
        return cross_entropy(self(outputs), labels(rewards, mask))

    def sample(
        self, output: Float[Tensor, "batch embed"], *, generator: Source, greedy: bool = False
    ) -> Float[Tensor, " batch"]:
        """Return -1, 0 or 1, drawn from the predicted distribution."""
        return (sample_categorical(self(output), generator=generator, greedy=greedy) - 1).float()

    def signs(self, outputs: Float[Tensor, "*batch embed"]) -> Int64[Tensor, "*batch"]:
        """Return the likeliest sign."""
        likeliest: Tensor = self(outputs).argmax(dim=-1) - 1
        return likeliest


def labels(
    rewards: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Int64[Tensor, "batch time"]:
    """Return the class of each reward, or `IGNORED` where a step is padding."""
    return heads.labels((rewards.sign() + 1).long(), mask)
