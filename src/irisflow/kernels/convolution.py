"""3 x 3 convolutions of maps channels last with a quarter of the products: Winograd's algorithm, `convolution.cpp`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irisflow.kernels.use import CHANNELS, call, can_use, is_channels_last

PAIRS = 36  # of points at which weights are known

Map = Float[Tensor, "batch channels height width"]
NewMap = Float[Tensor, "batch new_channels new_height new_width"]
Weight = Float[Tensor, "new_channels channels 3 3"]
AtPoints = Float[Tensor, "pairs_outputs_inputs"]


def can_convolve(maps: Map, weight: Weight) -> bool:
    """Return whether there is a kernel for a convolution of maps channels last: multiples of 16 channels.

    Without gradient there may be any number of new channels.
    """
    num_outputs, num_inputs = weight.shape[:2]
    is_multiple = num_inputs % CHANNELS == 0 and (num_outputs % CHANNELS == 0 or not torch.is_grad_enabled())
    return is_multiple and is_channels_last(maps) and can_use(maps, weight)


def weights_at_points(weight: Weight, *, is_turned: bool = False) -> AtPoints:
    """Return weights as `convolve` takes them; turned, those of the gradient of what was convolved."""
    weight = F.pad(weight.detach(), (0, 0, 0, 0, 0, 0, 0, _missing(len(weight)))).contiguous()
    num_outputs, num_inputs = weight.shape[1::-1] if is_turned else weight.shape[:2]
    made = torch.empty(PAIRS * num_outputs * num_inputs)
    call("weights_at_points", weight, made, num_outputs, num_inputs, is_turned)
    return made


def convolve(
    maps: Map,
    weights: AtPoints,
    bias: Float[Tensor, " new_channels"] | None = None,
    *,
    num_outputs: int,
    added: NewMap | None = None,
    is_doubled: bool = False,
) -> NewMap:
    """Return maps (channels last) convolved with padding 1, plus bias and what is `added`, without gradient.

    `is_doubled`: each pixel of the maps stands for 2 x 2.
    """
    missing = _missing(num_outputs)
    if missing:
        bias = None if bias is None else F.pad(bias, (0, missing))
        more = convolve(maps, weights, bias, num_outputs=num_outputs + missing, is_doubled=is_doubled)
        made = more[:, :num_outputs]
        return made.clone(memory_format=torch.channels_last) if added is None else made + added
    batch, num_inputs, height, width = maps.shape
    scale = 1 + is_doubled
    shape = (batch, num_outputs, scale * height, scale * width)
    made = torch.empty(shape, memory_format=torch.channels_last)
    if added is not None:
        added = added.contiguous(memory_format=torch.channels_last)
    sizes = (batch, *shape[2:], num_inputs, num_outputs, is_doubled)
    call("convolve_3x3", maps, weights, bias, added, made, *sizes)
    return made


def weights_gradient(maps: Map, gradient: NewMap, *, is_doubled: bool = False) -> Weight:
    """Return the gradient of the weights of `convolve` from its maps and the gradient of what it returned."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    batch, num_outputs, height, width = gradient.shape
    made = torch.empty(num_outputs, maps.shape[1], 3, 3)
    sizes = (batch, height, width, maps.shape[1], num_outputs, is_doubled, torch.get_num_threads())
    call("weights_gradient_3x3", maps, gradient, made, *sizes)
    return made


def _missing(num_outputs: int) -> int:
    """Return how many channels the kernel makes beyond those that are wanted."""
    return -num_outputs % CHANNELS
