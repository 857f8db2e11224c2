"""1 - SSIM, the structural similarity of Wang et al. (2004), equation 13.

SSIM compares brightness by a ratio of means, so it is defined for pictures that are nowhere negative: ours are moved from
[-1, 1] to [0, 2]. A prediction is not clamped. Borders are continued by reflection.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.tokenizer.reconstruction._similarity import check_window, similarities
from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0, "sigma": 0.2}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss; deviation of the Gaussian window in pixels: 1.5 is the paper's, 11 pixels wide."""

    weight: float = 1.0
    sigma: float = 1.5


def build(config: Config) -> "StructuralDissimilarity":
    """Return the term."""
    return StructuralDissimilarity(weight=config.weight, sigma=config.sigma)


class StructuralDissimilarity(nn.Module):
    """Mean over the batch of 1 - SSIM: 0 for equal pictures, 2 at most."""

    def __init__(self, *, weight: float, sigma: float) -> None:
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance. Raises ConfigError if the window does not fit into the pictures."""
        check_window("ssim", self.sigma, pictures.target.shape[-1])
        similarity, _ = similarities(pictures.prediction + 1, pictures.target + 1, sigma=self.sigma)
        return self.weight * (1 - similarity.mean())
