"""A Linear layer computed by oneDNN on a CPU, where torch's own product is slow for few rows, and on AMD for many."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.kernels.kept import Kept
from irisflow.plainly import is_plain

LEAST_WEIGHTS = (
    2**16
)  # of a matrix that few rows meet; torch multiplies eight rows with a smaller one as fast
LEAST_PRODUCTS = 2**23  # rows x weights; below it, calling a convolution costs more than it saves
NUM_IMAGES = 16  # the fewest for which torch convolves by oneDNN with one thread, too
OPERATIONS: Any = torch.ops.mkldnn  # torch's oneDNN operations, which its compiler uses
HAS_ONEDNN = hasattr(OPERATIONS, "_linear_pointwise")

Rows = Float[Tensor, "*batch inputs"]
Products = Float[Tensor, "*batch outputs"]


class Linear(nn.Linear):
    """torch.nn.Linear, in float32 on a CPU about twice as fast (benchmarks/README.md).

    Without gradient, rows meet a weight in the order of oneDNN, kept until it changes, and what follows is done in the same
    pass. With gradient, many rows are the pixels of images that are convolved with a kernel of 1 x 1.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._packed = Kept()

    def forward(self, rows: Rows) -> Products:
        """Return the rows times the weight, plus the bias."""
        return product(rows, self.weight, self.bias, self._packed)

    def gelu(self, rows: Rows) -> Products:
        """Return the GELU (Hendrycks and Gimpel 2016, with the error function) of `forward`."""
        packed = packed_for(rows, self.weight, self._packed)
        if packed is None:
            return F.gelu(self.forward(rows))
        activated: Tensor = OPERATIONS._linear_pointwise(rows, packed, self.bias, "gelu", [], "none")
        return activated

    def added(self, rows: Rows, to: Products) -> Products:
        """Return `to` plus `forward`."""
        packed = packed_for(rows, self.weight, self._packed)
        if packed is None:
            return to + self.forward(rows)
        total: Tensor = OPERATIONS._linear_pointwise.binary(rows, to, packed, self.bias, "add")
        return total


def product(rows: Rows, weight: Tensor, bias: Tensor | None, packed: Kept) -> Products:
    """Return rows times a weight (outputs, inputs), plus a bias, in the fastest way. `packed` is the weight's own."""
    in_order = packed_for(rows, weight, packed)
    if in_order is not None:
        made: Tensor = OPERATIONS._linear_pointwise(rows, in_order, bias, "none", [], "")
        return made
    return _convolved(rows, weight, bias) if _is_image(rows, weight) else F.linear(rows, weight, bias)


def packed_for(rows: Rows, weight: Tensor, packed: Kept) -> Tensor | None:
    """Return the weight in oneDNN's order, or None where these rows do not meet it so."""
    if torch.is_grad_enabled() or not _is_faster_elsewhere(rows, weight):
        return None
    num_rows, num_weights = rows.numel() // weight.shape[1], weight.numel()
    if num_rows == 0 or (num_weights < LEAST_WEIGHTS and num_rows * num_weights < LEAST_PRODUCTS):
        return None
    return packed.of((weight,), partial(OPERATIONS._reorder_linear_weight, weight, num_rows))


def _is_image(rows: Rows, weight: Tensor) -> bool:
    """Return whether rows are multiplied faster as pixels, with gradient."""
    num_rows = rows.numel() // weight.shape[1]
    is_image = num_rows * weight.numel() >= LEAST_PRODUCTS and num_rows % NUM_IMAGES == 0
    return is_image and torch.is_grad_enabled() and _is_faster_elsewhere(rows, weight)


def _convolved(rows: Rows, weight: Tensor, bias: Tensor | None) -> Products:
    """Return the product as a convolution: the channels of a pixel lie beside each other already."""
    images = rows.reshape(NUM_IMAGES, 1, -1, weight.shape[1]).permute(0, 3, 1, 2)
    products = F.conv2d(images, weight[:, :, None, None], bias)
    return products.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], len(weight))


def _is_faster_elsewhere(rows: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN may be asked: float32 on a CPU, nothing that watches or changes operations."""
    is_float = rows.is_cpu and rows.dtype == weight.dtype == torch.float32 and HAS_ONEDNN
    return is_float and not (is_plain() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
