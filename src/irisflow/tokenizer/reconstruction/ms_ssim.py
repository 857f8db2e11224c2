"""1 - MS-SSIM: similarity of structure at several resolutions. Wang, Simoncelli and Bovik (2003), equation 7.

The paper has five scales, for pictures of 256 pixels and more: at the fifth, a picture of 64 x 64 has 4 x 4 pixels, less
than the window. With fewer scales, their exponents are the paper's first ones, rescaled so that they sum to 1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.errors import ConfigError
from irisflow.tokenizer.reconstruction._similarity import check_window, similarities
from irisflow.tokenizer.reconstruction.base import Images, Pictures

LEAST = {"weight": 0, "sigma": 0.2, "num_scales": 1}
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # section 3.2, finest scale first
FLOOR = 1e-3  # a power below 1 has no slope at 0, and no value below


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss; deviation of the Gaussian window in pixels; resolutions, each half the one before."""

    weight: float = 1.0
    sigma: float = 1.5
    num_scales: int = 3


def build(config: Config) -> "MultiScaleDissimilarity":
    """Return the term. Raises ConfigError for more scales than the paper has exponents for."""
    if config.num_scales > len(EXPONENTS):
        raise ConfigError(
            f"tokenizer.reconstruction.ms_ssim.num_scales is {config.num_scales}; allowed: 1 to {len(EXPONENTS)}."
        )
    exponents = EXPONENTS[: config.num_scales]
    return MultiScaleDissimilarity(
        [exponent / sum(exponents) for exponent in exponents], weight=config.weight, sigma=config.sigma
    )


class MultiScaleDissimilarity(nn.Module):
    """Mean over the batch of 1 - MS-SSIM: 0 for equal pictures, below 1.

    Brightness is compared at the coarsest scale only. A scale whose similarity is below a thousandth counts as that: it
    gives no gradient, where the published power would have none that is finite.
    """

    def __init__(self, exponents: list[float], *, weight: float, sigma: float) -> None:
        super().__init__()
        self.exponents, self.weight, self.sigma = exponents, weight, sigma

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance. Raises ConfigError if the window does not fit into the coarsest pictures."""
        check_window("ms_ssim", self.sigma, pictures.target.shape[-1] >> (len(self.exponents) - 1))
        similarity = self._similarity(pictures.prediction + 1, pictures.target + 1)
        return self.weight * (1 - similarity.mean())

    def _similarity(self, prediction: Images, target: Images) -> Float[Tensor, " batch"]:
        factors = []
        for index, exponent in enumerate(self.exponents):
            if index:
                prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
            whole, contrast = similarities(prediction, target, sigma=self.sigma)
            factor = whole if index == len(self.exponents) - 1 else contrast
            factors.append(factor.clamp(min=FLOOR) ** exponent)
        return torch.stack(factors).prod(dim=0)
