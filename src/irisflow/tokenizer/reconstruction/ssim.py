"""1 - SSIM, the structural similarity of Wang et al. (2004), equation 13, computed by torchmetrics.

SSIM compares brightness by a ratio of means, so it is defined for pictures that are nowhere negative: ours are moved from
[-1, 1] to [0, 2]. A prediction is not clamped. Borders are continued by reflection.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from irisflow.errors import ConfigError
from irisflow.tokenizer.reconstruction.base import Images, Pictures

LEAST = {"weight": 0, "sigma": 0.2}
RANGE = 2.0


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


def similarities(
    prediction: Images, target: Images, *, sigma: float
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return each picture's SSIM and its factor for contrast and structure alone; pictures in [0, 2].

    In float32 under autocast too: variances are differences of numbers that are nearly equal.
    """
    with torch.autocast(target.device.type, enabled=False):
        similarity, contrast = structural_similarity_index_measure(
            prediction,
            target,
            sigma=sigma,
            data_range=RANGE,
            reduction="none",
            return_contrast_sensitivity=True,
        )
    return similarity, contrast


def check_window(term: str, sigma: float, size: int) -> None:
    """Raise ConfigError if the window, 3.5 deviations to each side, is wider than the smallest picture it moves over."""
    width = 2 * int(3.5 * sigma + 0.5) + 1
    if width > size:
        raise ConfigError(
            f"tokenizer.reconstruction.{term}.sigma is {sigma}, a window of {width} pixels; allowed: up to {size} pixels,"
            " the smallest picture that it moves over."
        )
