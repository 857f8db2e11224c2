"""Group normalisation of maps channels last, with the SiLU after it: `normalisation.cpp`."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from irisflow.kernels.use import CHANNELS, call, can_use, is_channels_last

Map = Float[Tensor, "batch channels height width"]


def can_normalise(maps: Map, weight: Tensor, num_groups: int) -> bool:
    """Return whether there is a kernel for maps channels last: groups of 1, 2, 4, and where registers are wider, 8 or 16."""
    channels = len(weight)
    may = channels % CHANNELS == 0 and is_channels_last(maps) and can_use(maps, weight)
    return may and call("channels_together") % (channels // num_groups) == 0


def normalised(
    maps: Map, weight: Tensor, bias: Tensor, *, num_groups: int, eps: float, has_silu: bool
) -> Map:
    """Return the normalised maps x weight + bias, or x sigmoid(x) of them."""
    given = (maps, weight, bias, num_groups, eps, has_silu)
    if not torch.is_grad_enabled():
        return _normalised(*given)[0]
    made: Map = _Normalise.apply(*given)
    return made


def _normalised(
    maps: Map, weight: Tensor, bias: Tensor, num_groups: int, eps: float, has_silu: bool
) -> tuple[Map, Tensor, Tensor]:
    """Return the normalised maps, and of each image and channel the mean and the inverse deviation of its group."""
    batch, channels, height, width = maps.shape
    made, mean = torch.empty_like(maps, memory_format=torch.channels_last), torch.empty(batch, channels)
    inverse_deviation = torch.empty_like(mean)
    sizes = (batch, height * width, channels, channels // num_groups)
    call("normalise", maps, weight, bias, made, mean, inverse_deviation, *sizes, eps, has_silu)
    return made, mean, inverse_deviation


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: Map, weight: Tensor, bias: Tensor, num_groups: int, eps: float, has_silu: bool
    ) -> Map:
        made, mean, inverse_deviation = _normalised(maps, weight, bias, num_groups, eps, has_silu)
        batch, channels, height, width = maps.shape
        ctx.sizes = (batch, height * width, channels, channels // num_groups)
        ctx.has_silu = has_silu
        ctx.save_for_backward(maps, weight, bias, mean, inverse_deviation)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Map) -> tuple[Map, Tensor, Tensor, None, None, None]:
        """Return the gradients of maps, weight and bias."""
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        maps, *_, mean, _ = ctx.saved_tensors
        of_maps = torch.empty_like(maps, memory_format=torch.channels_last)
        of_weight, of_bias = torch.empty_like(mean), torch.empty_like(mean)
        tensors = (*ctx.saved_tensors, gradient, of_maps, of_weight, of_bias)
        call("normalise_gradient", *tensors, *ctx.sizes, ctx.has_silu)
        return of_maps, of_weight.sum(dim=0), of_bias.sum(dim=0), None, None, None
