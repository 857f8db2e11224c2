"""Where kernels may be used, and how they are called."""

from collections.abc import Sequence
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from irisflow.kernels.build import library
from irisflow.plainly import is_plain

CHANNELS = 16  # numbers of channels, and widths, are multiples of it, whatever the processor


def has_kernels() -> bool:
    """Return whether there are kernels, and nothing that watches or changes torch's operations."""
    is_watched = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    return not (is_plain() or is_watched) and library() is not None


def can_use(*tensors: Tensor) -> bool:
    """Return whether kernels may compute with these tensors: float32, on a CPU."""
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors) and has_kernels()


def is_channels_last(maps: Float[Tensor, "batch channels height width"]) -> bool:
    """Return whether maps lie channels last, and in no other way."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def call(name: str, *arguments: Tensor | Sequence[Tensor] | float | None) -> int:
    """Call a kernel; it is given where tensors lie, and numbers as they are. Return what it returns, if it does."""
    returned: int = _kernel(name)(*map(_given, arguments))
    return returned


@cache
def _kernel(name: str) -> Any:
    kernel = getattr(library(), name)
    kernel.restype = c_int64
    return kernel


def _given(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return c_int64(argument)
    if isinstance(argument, float):
        return c_double(argument)
    if argument is None:
        return c_void_p(None)
    return (c_void_p * len(argument))(*[tensor.data_ptr() for tensor in argument])
