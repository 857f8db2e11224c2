"""What the terms `ssim` and `ms_ssim` share: the similarity of structure of Wang et al. (2004), equation 13.

Written out: torchmetrics, against which it is tested, takes nine seconds to import.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from irisflow.errors import ConfigError
from irisflow.tokenizer.reconstruction.base import Images

RANGE = 2.0
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2


def similarities(
    prediction: Images, target: Images, *, sigma: float
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return each picture's SSIM and its factor for contrast and structure alone; pictures in [0, 2].

    The factor is the mean over windows that lie wholly inside; for SSIM itself, borders are continued by reflection. In the
    target's precision under autocast too: variances are differences of numbers that are nearly equal.
    """
    with torch.autocast(target.device.type, enabled=False):
        x, y = prediction.to(target.dtype), target
        mean_x, mean_y, xx, yy, xy = (_window_means(part, sigma) for part in (x, y, x * x, y * y, x * y))
        variances = (xx - mean_x.square()).clamp(min=0) + (yy - mean_y.square()).clamp(min=0)
        contrast = (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)
        brightness = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    inside = slice(_reach(sigma), -_reach(sigma))
    return (brightness * contrast).flatten(1).mean(dim=1), contrast[..., inside, inside].flatten(1).mean(
        dim=1
    )


def _reach(sigma: float) -> int:
    """Return how many pixels the window reaches to each side: 3.5 deviations."""
    return int(3.5 * sigma + 0.5)


def _window_means(images: Images, sigma: float) -> Images:
    """Return the means of the Gaussian windows around all pixels, by a product for the columns and one for the rows."""
    height, width = images.shape[-2:]
    return _bells(height, sigma, like=images) @ images @ _bells(width, sigma, like=images).T


def _bells(size: int, sigma: float, *, like: Tensor) -> Float[Tensor, "size size"]:
    """Return the matrix whose rows are the windows around each of `size` pixels, folded back at both ends."""
    pixels = torch.arange(size, device=like.device)
    offsets = torch.arange(-_reach(sigma), _reach(sigma) + 1, device=like.device)
    bell = torch.exp(-(offsets / sigma).square() / 2).to(like.dtype)
    reflected = size - 1 - ((pixels[:, None] + offsets).abs() - (size - 1)).abs()
    is_there = reflected[..., None] == pixels  # [pixel, offset, pixel]
    return (is_there * (bell / bell.sum())[:, None]).sum(dim=1)


def check_window(term: str, sigma: float, size: int) -> None:
    """Raise ConfigError if the window, 3.5 deviations to each side, is wider than the smallest picture it moves over."""
    width = 2 * _reach(sigma) + 1
    if width > size:
        raise ConfigError(
            f"tokenizer.reconstruction.{term}.sigma is {sigma}, a window of {width} pixels; allowed: up to {size} pixels,"
            " the smallest picture that it moves over."
        )
