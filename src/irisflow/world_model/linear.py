"""A Linear layer that is fast for few rows on a CPU, as in the token loop: there it is bound by reading its weight."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOST_ROWS, LEAST_WEIGHTS = 128, 2**17  # with more rows, or with a smaller matrix, torch's own way is as fast


class Linear(nn.Linear):
    """torch.nn.Linear. Without gradient, few rows on a CPU meet a weight in the order of oneDNN, kept until it changes.

    torch multiplies eight rows with such a weight 1.5 to 2.5 times more slowly (2 threads, 256 x 1,024; docs/benchmark.md).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._packed: tuple[int, Any] | None = None  # version of the weight, and the weight in oneDNN's order

    def forward(self, rows: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the rows times the weight, plus the bias."""
        if not self._is_packable(rows):
            return super().forward(rows)
        if self._packed is None or self._packed[0] != self.weight._version:
            num_rows = rows.numel() // self.in_features
            self._packed = (self.weight._version, _operations()._reorder_linear_weight(self.weight, num_rows))
        product: Tensor = _operations()._linear_pointwise(rows, self._packed[1], self.bias, "none", [], "")
        return product

    def _is_packable(self, rows: Tensor) -> bool:
        is_plain = rows.device.type == "cpu" and rows.dtype == self.weight.dtype == torch.float32
        is_watched = (
            torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        )
        is_worth_it = rows.numel() <= MOST_ROWS * self.in_features and self.weight.numel() >= LEAST_WEIGHTS
        return is_plain and is_worth_it and not is_watched and hasattr(_operations(), "_linear_pointwise")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed weight out of copies."""
        return {**self.__dict__, "_packed": None}


def _operations() -> Any:
    """Return torch's oneDNN operations, which its compiler uses."""
    return torch.ops.mkldnn
