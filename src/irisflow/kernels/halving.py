"""3 x 3 convolutions of maps channels last at every second pixel, without gradient: `halving.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor

from irisflow.kernels.use import CHANNELS, call, can_use, is_channels_last

Map = Float[Tensor, "batch channels height width"]
NewMap = Float[Tensor, "batch new_channels half_height half_width"]
Weight = Float[Tensor, "new_channels channels 3 3"]


def can_halve(maps: Map, weight: Weight) -> bool:
    """Return whether there is a kernel for maps channels last: multiples of 16 channels, no gradient."""
    is_multiple = not any(number % CHANNELS for number in weight.shape[:2])
    return is_multiple and not torch.is_grad_enabled() and is_channels_last(maps) and can_use(maps, weight)


def in_rows(weight: Weight) -> Float[Tensor, "3 3 channels new_channels"]:
    """Return weights as `halved` takes them."""
    return weight.detach().permute(2, 3, 1, 0).contiguous()


def halved(
    maps: Map, weights: Float[Tensor, "3 3 channels new_channels"], bias: Float[Tensor, " new_channels"]
) -> NewMap:
    """Return maps convolved at every second pixel, with zeros right of and below them."""
    batch, channels, height, width = maps.shape
    shape = (batch, len(bias), height // 2, width // 2)
    made = torch.empty(shape, memory_format=torch.channels_last)
    call("convolve_halving", maps, weights, bias, made, batch, height, width, channels, len(bias))
    return made
