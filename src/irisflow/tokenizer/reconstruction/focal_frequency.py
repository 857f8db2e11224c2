"""The focal frequency loss of Jiang et al. (2021), section 3: squared difference of spectra, the hard ones more.

As in the paper each spectrum is of one channel of one picture, and its weights are the difference itself to a power, over
the largest of that spectrum; no gradient flows through them. On the scale of [-1, 1], four times that of [0, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0, "alpha": 0}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss; how much more a frequency counts that is drawn badly: 0 for all the same."""

    weight: float = 1.0
    alpha: float = 1.0


def build(config: Config) -> "FocalFrequencyDistance":
    """Return the term."""
    return FocalFrequencyDistance(weight=config.weight, alpha=config.alpha)


class FocalFrequencyDistance(nn.Module):
    """Mean over all frequencies of all spectra of the squared difference times its weight in [0, 1]."""

    def __init__(self, *, weight: float, alpha: float) -> None:
        super().__init__()
        self.weight, self.alpha = weight, alpha

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        difference = torch.fft.fft2(pictures.prediction - pictures.target, norm="ortho")
        squared: Tensor = difference.real.square() + difference.imag.square()
        focus = squared.detach() ** (self.alpha / 2)
        largest = focus.amax(dim=(-2, -1), keepdim=True)
        focus = focus / largest.clamp(min=torch.finfo(focus.dtype).tiny)
        distance: Tensor = (focus * squared).mean()
        return self.weight * distance
