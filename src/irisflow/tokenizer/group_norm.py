"""Group normalisation of maps that lie channels last in memory, as exact as torch's on contiguous ones.

On a CPU torch.nn.functional.group_norm takes the variance of such maps as the mean of squares less the square of the mean,
which loses digits where a mean is large against its spread (4e-4 in the latents of IRIS's fixtures), and its gradient costs
as much as the convolutions. Here the variance is the mean of squared deviations. Of maps too large for the processor's
cache, a few images at a time go through all that is done to them without gradient, the activation included.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from irisflow.kernels.normalisation import can_normalise, normalised

Map = Float[Tensor, "batch channels height width"]
Pixels = Float[Tensor, "batch pixels channels"]
Statistics = Float[Tensor, "batch 1 channels"]

LARGE = 2**24  # bytes of maps; smaller ones are faster in one piece
BYTES_AT_ONCE = 2**21  # of the images that go through together


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm; of maps channels last on a CPU it is computed as this module says."""

    def forward(self, maps: Map) -> Map:
        """Return the normalised maps, in the layout of the given ones."""
        return self._normalised(maps, has_silu=False)

    def silu(self, maps: Map) -> Map:
        """Return x times sigmoid(x) of the normalised maps."""
        return self._normalised(maps, has_silu=True)

    def _normalised(self, maps: Map, *, has_silu: bool) -> Map:
        if not is_channels_last(maps) or maps.dtype != torch.float32:
            made = super().forward(maps)
            return F.silu(made) if has_silu else made
        if can_normalise(maps, self.weight, self.num_groups):
            settings = {"num_groups": self.num_groups, "eps": self.eps, "has_silu": has_silu}
            return normalised(maps, self.weight, self.bias, **settings)
        batch, channels, height, width = maps.shape
        pixels = maps.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        settings = (self.weight, self.bias, self.num_groups, self.eps)
        if torch.is_grad_enabled() or pixels.nbytes < LARGE:
            made = _Normalise.apply(pixels, *settings)
            made = F.silu(made) if has_silu else made
        else:
            made = _in_pieces(pixels, *settings, has_silu=has_silu)
        return made.view(batch, height, width, channels).permute(0, 3, 1, 2)


def is_channels_last(maps: Map) -> bool:
    """Return whether maps lie channels last, and in no other way, on a CPU."""
    is_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    return is_last and maps.device.type == "cpu"


class _Normalise(torch.autograd.Function):
    """Normalised pixels (Wu and He 2018): (x - mean) / sqrt(variance + eps) x weight + bias, by group of channels."""

    @staticmethod
    def forward(
        ctx: Any, pixels: Pixels, weight: Tensor, bias: Tensor, num_groups: int, eps: float
    ) -> Pixels:
        mean, inverse_deviation = _statistics(pixels, num_groups, eps, torch.empty_like(pixels))
        ctx.save_for_backward(pixels, weight, mean, inverse_deviation)
        ctx.num_groups = num_groups
        scale = inverse_deviation * weight
        return torch.addcmul(bias - mean * scale, pixels, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Pixels) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Return the gradients with respect to pixels, weight and bias.

        With y the deviations over their size, g the gradient times weight, and means over a group and its pixels: the
        gradient of a pixel is (g - mean(g) - y mean(g y)) / deviation.
        """
        pixels, weight, mean, inverse_deviation = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_bias = gradient.sum(dim=1, keepdim=True)
        of_weight = ((gradient * pixels).sum(dim=1, keepdim=True) - mean * of_bias) * inverse_deviation
        num_pixels = pixels.shape[1]
        mean_g = _over_group((of_bias * weight)[:, 0], ctx.num_groups) / num_pixels
        mean_gy = _over_group((of_weight * weight)[:, 0], ctx.num_groups) / num_pixels
        slope = -mean_gy * inverse_deviation.square()
        of_pixels = gradient * (weight * inverse_deviation)
        of_pixels.addcmul_(pixels, slope).add_(-slope * mean - mean_g * inverse_deviation)
        return of_pixels, of_weight.sum(dim=(0, 1)), of_bias.sum(dim=(0, 1)), None, None


def _in_pieces(
    pixels: Pixels, weight: Tensor, bias: Tensor, num_groups: int, eps: float, *, has_silu: bool
) -> Pixels:
    """Return the normalised pixels of a few images after those of others."""
    made = torch.empty_like(pixels)
    num_images = max(1, BYTES_AT_ONCE // max(1, pixels[0].nbytes))
    room = torch.empty_like(pixels[:num_images])
    pieces = zip(torch.split(pixels, num_images), torch.split(made, num_images), strict=True)
    for piece, target in pieces:
        mean, inverse_deviation = _statistics(piece, num_groups, eps, room[: len(piece)])
        scale = inverse_deviation * weight
        torch.addcmul(bias - mean * scale, piece, scale, out=target)
        if has_silu:
            F.silu(target, inplace=True)
    return made


def _statistics(pixels: Pixels, num_groups: int, eps: float, room: Pixels) -> tuple[Statistics, Statistics]:
    """Return, for each channel, its group's mean and 1 / sqrt(variance + eps). What is in `room` is lost."""
    mean = _over_group(pixels.mean(dim=1), num_groups)
    variance = _over_group(torch.sub(pixels, mean, out=room).square_().mean(dim=1), num_groups)
    return mean, (variance + eps).rsqrt_()


def _over_group(per_channel: Float[Tensor, "batch channels"], num_groups: int) -> Statistics:
    """Return, for each channel, the mean over the channels of its group."""
    groups = per_channel.view(len(per_channel), num_groups, -1)
    return groups.mean(dim=2, keepdim=True).expand_as(groups).flatten(1)[:, None]
