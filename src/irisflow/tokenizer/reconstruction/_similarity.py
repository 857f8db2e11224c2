"""What the terms `ssim` and `ms_ssim` share: similarities of structure as torchmetrics computes them."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from irisflow.errors import ConfigError
from irisflow.tokenizer.reconstruction.base import Images

RANGE = 2.0


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
