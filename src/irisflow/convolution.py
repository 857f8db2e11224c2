"""3 x 3 convolutions: with padding 1, with something added, of a doubled map, one that halves, each in its fastest way."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from irisflow.kernels.convolution import can_convolve, convolve, weights_at_points, weights_gradient
from irisflow.kernels.halving import can_halve, halved, in_rows
from irisflow.kernels.kept import Kept

Map = Float[Tensor, "batch channels height width"]
NewMap = Float[Tensor, "batch new_channels new_height new_width"]
Weight = Float[Tensor, "new_channels channels 3 3"]

LEAST_TILES = 4  # of 4 x 4 outputs for each input channel; with fewer, torch's gradient of weights is faster


class Conv3x3(nn.Conv2d):
    """torch.nn.Conv2d with a 3 x 3 kernel; on a CPU maps channels last are convolved by the kernel of `irisflow.kernels`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self._at_points = _WeightsAtPoints()

    def forward(self, maps: Map) -> NewMap:
        """Return the convolved maps."""
        return self._convolved(maps) if can_convolve(maps, self.weight) else super().forward(maps)

    def added(self, maps: Map, to: NewMap) -> NewMap:
        """Return `to` plus `forward`."""
        if can_convolve(maps, self.weight):
            return self._convolved(maps, added=to)
        return to + super().forward(maps)

    def doubled(self, maps: Map) -> NewMap:
        """Return `forward` of maps in which each pixel is repeated 2 x 2."""
        if can_convolve(maps, self.weight):
            return self._convolved(maps, is_doubled=True)
        return super().forward(F.interpolate(maps, scale_factor=2.0, mode="nearest"))

    def _convolved(self, maps: Map, *, added: NewMap | None = None, is_doubled: bool = False) -> NewMap:
        weights, num_outputs = self._at_points.of(self.weight), self.out_channels
        if not torch.is_grad_enabled():
            return convolve(
                maps, weights, self.bias, num_outputs=num_outputs, added=added, is_doubled=is_doubled
            )
        made: NewMap = _Convolve.apply(
            maps, self.weight, self.bias, added, weights, self._at_points, is_doubled
        )
        return made


class Halving(nn.Conv2d):
    """A 3 x 3 convolution of every second pixel, with zeros right of and below the map; channels last by the kernel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)
        self._in_rows = Kept()

    def forward(self, maps: Map) -> NewMap:
        """Return maps at half the resolution."""
        if self.bias is not None and can_halve(maps, self.weight):
            weights = self._in_rows.of((self.weight,), partial(in_rows, self.weight))
            return halved(maps, weights, self.bias)
        return super().forward(F.pad(maps, (0, 1, 0, 1)))


class _WeightsAtPoints:
    """What the kernel makes of weights: for convolving, and turned for its gradient."""

    def __init__(self) -> None:
        self._kept = {False: Kept(), True: Kept()}

    def of(self, weight: Weight, *, is_turned: bool = False) -> Tensor:
        """Return the weights at the points."""
        return self._kept[is_turned].of((weight,), partial(weights_at_points, weight, is_turned=is_turned))


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Map,
        weight: Weight,
        bias: Tensor | None,
        added: NewMap | None,
        weights: Tensor,
        at_points: _WeightsAtPoints,
        is_doubled: bool,
    ) -> NewMap:
        ctx.save_for_backward(maps, weight)
        ctx.at_points, ctx.is_doubled = at_points, is_doubled
        return convolve(maps, weights, bias, num_outputs=len(weight), added=added, is_doubled=is_doubled)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: NewMap) -> tuple[Tensor | None, ...]:
        """Return the gradients of maps, weight, bias and what was added, as far as they are wanted."""
        maps, weight = ctx.saved_tensors
        wants_maps, wants_weight, wants_bias, wants_added = ctx.needs_input_grad[:4]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = of_weight = None
        if wants_maps:
            turned = ctx.at_points.of(weight, is_turned=True)
            of_maps = convolve(gradient, turned, num_outputs=weight.shape[1])
            of_maps = 4 * F.avg_pool2d(of_maps, 2) if ctx.is_doubled else of_maps
        if wants_weight:
            of_weight = _weight_gradient(maps, weight, gradient, is_doubled=ctx.is_doubled)
        of_bias = gradient.sum(dim=(0, 2, 3)) if wants_bias else None
        return of_maps, of_weight, of_bias, gradient if wants_added else None, None, None, None


def _weight_gradient(maps: Map, weight: Weight, gradient: NewMap, *, is_doubled: bool) -> Weight:
    batch, _, height, width = gradient.shape
    if batch * height * width >= 16 * LEAST_TILES * weight.shape[1]:
        return weights_gradient(maps, gradient, is_doubled=is_doubled)
    seen = F.interpolate(maps, scale_factor=2.0, mode="nearest") if is_doubled else maps
    made: Weight
    _, made, _ = torch.ops.aten.convolution_backward(
        gradient, seen, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )
    return made
