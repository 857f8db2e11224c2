"""A pass of a few tokens through a Transformer with a key-value cache, all its layers in one call: `transformer.cpp`."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.kernels.use import CHANNELS, call, can_use

Tokens = Float[Tensor, "batch length embed"]
Packed = Float[Tensor, " weights"]


def can_pass(embeddings: Tokens, weight: Tensor, num_heads: int) -> bool:
    """Return whether there is a kernel for tokens and weights such as this one: heads are multiples of 16 wide."""
    return embeddings.shape[-1] % (num_heads * CHANNELS) == 0 and can_use(embeddings, weight)


def packed(parameters: Sequence[Tensor], width: int) -> Packed:
    """Return weights as `token_pass` takes them.

    They are, of each layer, norm, qkv, out, norm, widen and narrow, each weight and bias, and the last norm's: float32.
    """
    num_layers = len(parameters) // 12
    made = torch.empty(call("transformer_size", num_layers, width))
    own = [parameter.detach().contiguous() for parameter in parameters]
    call("transformer_pack", own, made, num_layers, width)
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
    sizes = (batch, length, start, window, len(caches), num_heads, width, torch.get_num_threads())
    call("transformer_pass", embeddings, positions, weights, caches, visible, made, *sizes, epsilon)
    return made


def drawn_frame(
    output: Float[Tensor, "batch embed"],
    head: Packed,
    table: Float[Tensor, "classes embed"],
    numbers: Float[Tensor, "tokens batch"],
    positions: Float[Tensor, "window embed"],
    weights: Packed,
    caches: Sequence[Float[Tensor, "2 batch heads window head_width"]],
    visible: Bool[Tensor, "window window"],
    *,
    start: int,
    shares: int,
    epsilon: float,
) -> Int64[Tensor, "batch tokens"]:
    """Return a frame's tokens, drawn one after another by float64 numbers: `perceptron_pass`, a class, `token_pass`.

    The first is drawn from an output, behind which `start` tokens lie in the caches. The last one is not passed through.
    """
    num_tokens, batch = numbers.shape
    num_classes, width = table.shape
    num_heads, window = caches[0].shape[2:4]
    made = torch.empty(num_tokens, batch, dtype=torch.long)
    given = (
        output.contiguous(),
        head,
        table,
        numbers.contiguous(),
        made,
        positions,
        weights,
        caches,
        visible,
    )
    sizes = (num_tokens, num_classes, batch, start, window, len(caches), num_heads, width)
    call("transformer_frame", *given, *sizes, torch.get_num_threads(), float(shares), epsilon)
    return made.t().contiguous()


def can_classify(rows: Tensor, weight: Tensor) -> bool:
    """Return whether there is a kernel for rows and a two-layer perceptron whose last layer has such a weight."""
    return not any(size % CHANNELS for size in weight.shape) and can_use(rows, weight)


def packed_perceptron(parameters: Sequence[Tensor]) -> Packed:
    """Return weights as `perceptron_pass` takes them, from weight and bias of two layers, the first as wide as its input."""
    num_outputs, width = parameters[2].shape
    made = torch.empty(call("perceptron_size", width, num_outputs))
    own = [parameter.detach().contiguous() for parameter in parameters]
    call("perceptron_pack", own, made, width, num_outputs)
    return made


def perceptron_pass(
    rows: Float[Tensor, "rows embed"], weights: Packed, num_outputs: int
) -> Float[Tensor, "rows outputs"]:
    """Return what a layer, a ReLU and another layer make of rows, without gradient."""
    rows = rows.contiguous()
    made = torch.empty(len(rows), num_outputs)
    call("perceptron_pass", rows, weights, made, *rows.shape, num_outputs, torch.get_num_threads())
    return made
