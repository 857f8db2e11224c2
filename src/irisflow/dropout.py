"""Dropout whose masks are drawn on a CPU three times as fast as torch's: by comparing random integers.

torch draws each member of a mask as a Bernoulli number by itself, which took a quarter of a world-model update
(benchmarks/README.md). Here 64 random bits of torch's generator decide on two members.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from irisflow.plainly import is_plain

Values = Float[Tensor, "*shape"]
STEPS = 2**32  # a probability is rounded to one of so many


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
    dropped: Tensor = _Drop.apply(values, p)
    return dropped


def attention(
    query: Float[Tensor, "batch heads queries width"],
    keys: Float[Tensor, "batch heads keys width"],
    values: Float[Tensor, "batch heads keys width"],
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    pdrop: float = 0.0,
) -> Float[Tensor, "batch heads queries width"]:
    """Return scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), of whose weights a share is dropped.

    A boolean mask is true where a query sees a key; another one is added to the scores. Without `pdrop`, or where masks are
    drawn quickly anyway, it is torch's own.
    """
    if not pdrop or not query.is_cpu or is_plain() or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=is_causal, dropout_p=pdrop
        )
    scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return dropout(scores.softmax(dim=-1), pdrop) @ values


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
    """Return a mask that is false with probability p, rounded to 2^-32."""
    number = values.numel()
    bits = torch.empty((number + 1) // 2, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int32)[:number].view(values.shape) >= round(p * STEPS) - STEPS // 2
