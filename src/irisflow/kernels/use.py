"""Where kernels may be used, and how tensors are given to them."""

from ctypes import c_int64, c_void_p
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from irisflow.kernels.build import library
from irisflow.plainly import is_plain

CHANNELS = 16  # numbers of channels are multiples of it


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


def call(name: str, tensors: tuple[Tensor | None, ...], sizes: tuple[Any, ...]) -> None:
    """Call a kernel with where tensors lie, then with sizes; other numbers than whole ones are ctypes' own."""
    pointers = [c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    numbers = [c_int64(size) if isinstance(size, int) else size for size in sizes]
    library()[name](*pointers, *numbers)  # type: ignore[index]
