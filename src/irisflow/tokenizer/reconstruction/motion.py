"""The absolute difference where pixels that changed since the step before count more. Our own: no paper has it so.

What moves is what a policy acts on, and in Atari it fills a small part of the picture.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.tokenizer.reconstruction.base import Images, Pictures

LEAST = {"weight": 0, "strength": 0}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss; what a full change, from black to white, counts on top of an unchanged pixel's 1."""

    weight: float = 1.0
    strength: float = 10.0


def build(config: Config) -> "MovingDifference":
    """Return the term."""
    return MovingDifference(weight=config.weight, strength=config.strength)


class MovingDifference(nn.Module):
    """Weighted mean over each picture of the absolute difference, on the scale of [-1, 1].

    A picture's weights have mean 1, so the term is on the scale of `l1`: it is `l1` where all or nothing moved, as at the
    first step of an episode.
    """

    needs_previous = True

    def __init__(self, *, weight: float, strength: float) -> None:
        super().__init__()
        self.weight, self.strength = weight, strength

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        assert pictures.previous is not None  # the tokenizer asks for it: `needs_previous`
        focus = moving(pictures.target, pictures.previous, strength=self.strength)
        return self.weight * (focus * (pictures.prediction - pictures.target).abs()).mean()


def moving(target: Images, previous: Images, *, strength: float) -> Float[Tensor, "batch 1 height width"]:
    """Return the weight of each pixel: 1 + strength x its channels' largest change in [0, 1], over the picture's mean."""
    change = (target - previous).abs().amax(dim=1, keepdim=True) / 2
    focus = 1 + strength * change
    return focus / focus.mean(dim=(-2, -1), keepdim=True)
