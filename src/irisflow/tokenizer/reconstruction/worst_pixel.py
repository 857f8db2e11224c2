"""The worst pixel's squared error: what fills one pixel cannot be drowned in the mean.

The "max-pixel" loss of Delta-IRIS (Micheli et al. 2024): the largest squared difference of a picture over all pixels and
channels, as a mean over the batch. Which norm, and that channels count apart, says its published code only
(github.com/vmicheli/delta-iris); its pictures are in [0, 1], where the same error is a quarter of ours.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss."""

    weight: float = 1.0


def build(config: Config) -> "WorstPixel":
    """Return the term."""
    return WorstPixel(weight=config.weight)


class WorstPixel(nn.Module):
    """Mean over the batch of each picture's largest squared difference, on the scale of [-1, 1]: 4 at most in range."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        squared = (pictures.prediction - pictures.target).square()
        return self.weight * squared.flatten(1).amax(dim=1).mean()
