"""A pass of a few tokens through a Transformer with a key-value cache, all its layers in one call: `transformer.cpp`."""

from collections.abc import Sequence
from ctypes import CDLL, c_float, c_int64, c_void_p
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from irisflow.kernels.build import library

LANES = 16  # the width of a head is a multiple of it

Tokens = Float[Tensor, "batch length embed"]
Packed = Float[Tensor, " weights"]


def can_pass(num_heads: int, width: int) -> bool:
    """Return whether there is a kernel for heads so many and a Transformer so wide."""
    return width % (num_heads * LANES) == 0 and library() is not None


def packed(parameters: Sequence[Tensor], width: int) -> Packed:
    """Return weights as `token_pass` takes them.

    They are, of each layer, norm, qkv, out, norm, widen and narrow, each weight and bias, and the last norm's: float32.
    """
    num_layers = len(parameters) // 12
    made = torch.empty(_kernels().transformer_size(num_layers, width))
    own = [parameter.detach().contiguous() for parameter in parameters]
    _kernels().transformer_pack(_addresses(own), num_layers, width, made.data_ptr())
    return made


def token_pass(
    embeddings: Tokens,
    positions: Float[Tensor, "window embed"],
    weights: Packed,
    caches: Sequence[Float[Tensor, "2 batch heads window head_width"]],
    visible: Bool[Tensor, "window window"],
    *,
    start: int,
    epsilon: float,
) -> Tokens:
    """Return the outputs at tokens that follow `start` others, without gradient. Their keys and values go into the caches.

    All are contiguous float32 tensors on a CPU. A token sees (`visible`) all others up to some last one. `epsilon` is the
    norms'.
    """
    embeddings = embeddings.contiguous()
    made = torch.empty_like(embeddings)
    batch, length, width = embeddings.shape
    num_heads, window = caches[0].shape[2:4]
    tensors = (embeddings.data_ptr(), positions.data_ptr(), weights.data_ptr())
    sizes = (batch, length, start, window, len(caches), num_heads, width, torch.get_num_threads())
    _kernels().transformer_pass(
        *tensors, _addresses(caches), visible.data_ptr(), made.data_ptr(), *sizes, epsilon
    )
    return made


def can_classify(width: int, num_outputs: int) -> bool:
    """Return whether there is a kernel for a two-layer perceptron so wide with so many outputs."""
    return not (width % LANES or num_outputs % LANES) and library() is not None


def packed_perceptron(parameters: Sequence[Tensor]) -> Packed:
    """Return weights as `perceptron_pass` takes them, from weight and bias of two layers, the first as wide as its input."""
    num_outputs, width = parameters[2].shape
    made = torch.empty(_kernels().perceptron_size(width, num_outputs))
    own = [parameter.detach().contiguous() for parameter in parameters]
    _kernels().perceptron_pack(_addresses(own), width, num_outputs, made.data_ptr())
    return made


def perceptron_pass(
    rows: Float[Tensor, "rows embed"], weights: Packed, num_outputs: int
) -> Float[Tensor, "rows outputs"]:
    """Return what a layer, a ReLU and another layer make of rows, without gradient."""
    rows = rows.contiguous()
    made = torch.empty(len(rows), num_outputs)
    sizes = (*rows.shape, num_outputs, torch.get_num_threads())
    _kernels().perceptron_pass(rows.data_ptr(), weights.data_ptr(), made.data_ptr(), *sizes)
    return made


def _addresses(tensors: Sequence[Tensor]) -> object:
    return (c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


@cache
def _kernels() -> CDLL:
    found = library()
    assert found is not None
    found.transformer_size.argtypes, found.transformer_size.restype = [c_int64] * 2, c_int64
    found.transformer_pack.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    found.transformer_pass.argtypes = [c_void_p] * 6 + [c_int64] * 8 + [c_float]
    found.perceptron_size.argtypes, found.perceptron_size.restype = [c_int64] * 2, c_int64
    found.perceptron_pack.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    found.perceptron_pass.argtypes = [c_void_p] * 3 + [c_int64] * 4
    return found
