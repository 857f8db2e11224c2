"""How much two images differ: PSNR and SSIM on uint8 pixels."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

PSNR_CAP = 60.0  # dB; identical images would be infinitely good
WINDOW = 7
K1, K2, RANGE = 0.01, 0.03, 255.0

Images = UInt8[Tensor, "images 3 height width"]


def as_uint8(images: Float[Tensor, "*images 3 height width"]) -> UInt8[Tensor, "*images 3 height width"]:
    """Return images in [0, 1] as they are shown."""
    return (images * RANGE).round().to(torch.uint8)


def psnr(images: Images, references: Images) -> Float[Tensor, " images"]:
    """Return each image's peak signal-to-noise ratio in dB, over all pixels and colours, at most `PSNR_CAP`."""
    difference = images.float() - references.float()
    error = difference.square().flatten(1).mean(dim=1)
    return (20 * torch.log10(RANGE / error.sqrt())).clamp(max=PSNR_CAP)


def ssim(images: Images, references: Images) -> Float[Tensor, " images"]:
    """Return each image's structural similarity, at most 1: the mean over pixels and colours.

    Uniform windows of 7 x 7 that lie wholly inside the image, sample covariances, K1 = 0.01 and K2 = 0.03.
    Wang et al. 2004, and scikit-image's defaults for uint8.
    """
    x, y = images.float() - RANGE / 2, references.float() - RANGE / 2  # smaller squares round less
    mean_x, mean_y, xx, yy, xy = (_window_means(part) for part in (x, y, x * x, y * y, x * y))
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variances = sample * (xx - mean_x.square() + yy - mean_y.square())
    covariance = sample * (xy - mean_x * mean_y)
    mean_x, mean_y = mean_x + RANGE / 2, mean_y + RANGE / 2
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def _window_means(images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 rows columns"]:
    """Return the means of all windows. Two products with band matrices: pooling takes twenty times as long on a CPU."""
    height, width = images.shape[-2:]
    return _band(height, like=images) @ images @ _band(width, like=images).T


def _band(size: int, *, like: Tensor) -> Float[Tensor, "windows size"]:
    """Return the matrix that takes the mean of each `WINDOW` neighbours in a column."""
    ones = torch.ones(size - WINDOW + 1, size, dtype=like.dtype, device=like.device)
    return ones.triu().tril(WINDOW - 1) / WINDOW
