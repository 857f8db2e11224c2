"""A Linear layer computed by oneDNN on a CPU, where torch's own product is slow for few rows, and on AMD for many.

`as_torch_does` turns both ways off: the plain way that they are held and timed against.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAST_WEIGHTS = (
    2**16
)  # of a matrix that few rows meet; torch multiplies eight rows with a smaller one as fast
LEAST_PRODUCTS = 2**23  # rows x weights; below it, calling a convolution costs more than it saves
NUM_IMAGES = 16  # the fewest for which torch convolves by oneDNN with one thread, too

_is_plain: ContextVar[bool] = ContextVar("_is_plain", default=False)


@contextmanager
def as_torch_does() -> Iterator[None]:
    """Let every Linear compute as torch.nn.Linear does. Also decorates a function."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


class Linear(nn.Linear):
    """torch.nn.Linear, in float32 on a CPU about twice as fast (benchmarks/README.md).

    Without gradient, rows meet a weight in the order of oneDNN, kept until it changes. With gradient, many rows are the
    pixels of images that are convolved with a kernel of 1 x 1.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._packed: tuple[tuple[int, int], Any] | None = None  # which weight, and it in oneDNN's order

    def forward(self, rows: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the rows times the weight, plus the bias."""
        if not self._is_faster_elsewhere(rows):
            return super().forward(rows)
        num_rows = rows.numel() // self.in_features
        has_many = num_rows * self.weight.numel() >= LEAST_PRODUCTS
        if torch.is_grad_enabled():
            is_image = has_many and num_rows % NUM_IMAGES == 0
            return self._convolved(rows) if is_image else super().forward(rows)
        is_worth_it = (has_many or self.weight.numel() >= LEAST_WEIGHTS) and num_rows > 0
        return self._multiplied(rows) if is_worth_it else super().forward(rows)

    def _convolved(self, rows: Tensor) -> Tensor:
        """Return the product as a convolution: the channels of a pixel lie beside each other already."""
        images = rows.reshape(NUM_IMAGES, 1, -1, self.in_features).permute(0, 3, 1, 2)
        products = F.conv2d(images, self.weight[:, :, None, None], self.bias)
        return products.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], self.out_features)

    def _multiplied(self, rows: Tensor) -> Tensor:
        """Return the product with the weight in oneDNN's order."""
        which = (self.weight._version, self.weight.data_ptr())
        if self._packed is None or self._packed[0] != which:
            num_rows = rows.numel() // self.in_features
            self._packed = (which, _operations()._reorder_linear_weight(self.weight, num_rows))
        product: Tensor = _operations()._linear_pointwise(rows, self._packed[1], self.bias, "none", [], "")
        return product

    def _is_faster_elsewhere(self, rows: Tensor) -> bool:
        if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or _is_plain.get():
            return False
        is_float = rows.device.type == "cpu" and rows.dtype == self.weight.dtype == torch.float32
        return is_float and hasattr(_operations(), "_linear_pointwise")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed weight out of copies."""
        return {**self.__dict__, "_packed": None}


def _operations() -> Any:
    """Return torch's oneDNN operations, which its compiler uses."""
    return torch.ops.mkldnn
