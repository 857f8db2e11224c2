"""Dropout whose masks are drawn on a CPU faster than torch's: by a kernel, or else by comparing random integers.

torch draws each member of a mask as a Bernoulli number by itself, which took a quarter of a world-model update
(benchmarks/README.md). Where there is no kernel, 64 random bits of torch's generator decide on two members.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from irisflow.kernels.dropout import STEPS, can_drop, dropped
from irisflow.plainly import is_plain

Values = Float[Tensor, "*shape"]


class Dropout(nn.Dropout):
    """torch.nn.Dropout: in training each member is 0 with probability p, and the others grow to 1 / (1 - p)."""

    def forward(self, values: Values) -> Values:
        """Return the values, some of them dropped if in training."""
        return dropout(values, self.p) if self.training else values


def dropout(values: Values, p: float) -> Values:
    """Return the values of which each is dropped with probability p."""
    is_own = values.is_cpu and 0 < p < 1 and not is_plain() and not torch.compiler.is_compiling()
    if not is_own:
        return F.dropout(values, p) if p else values
    if can_drop(values):
        return dropped(values, p)
    made: Values = _Drop.apply(values, p)
    return made


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Values, p: float) -> Values:
        kept = _kept(values, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (values * kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Values) -> tuple[Values, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None


def _kept(values: Values, p: float) -> Bool[Tensor, "*shape"]:
    """Return a mask in the layout of values that is false with probability p, rounded to 2^-32."""
    number = values.numel()
    bits = torch.empty((number + 1) // 2, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int32)[:number] >= round(p * STEPS) - STEPS // 2
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return kept.as_strided(values.shape, values.stride())  # arithmetic on two layouts is slow
    return kept.view(values.shape)
