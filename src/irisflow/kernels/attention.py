"""Softmax of attention's scores and dropout of its weights in one, with their gradient: `attention.cpp`."""

from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.autograd.function import once_differentiable

from irisflow.kernels.use import call, can_use

Scores = Float[Tensor, "batch heads queries keys"]
Bits = Int32[Tensor, "batch heads queries keys"]


def can_weigh(scores: Scores) -> bool:
    """Return whether there is a kernel for scores: float32, on a CPU."""
    return can_use(scores) and scores.numel() > 0


def dropped_weights(scores: Scores, bits: Bits, *, least: int, scale: float, is_causal: bool) -> Scores:
    """Return the softmax over keys, 0 where random bits are below `least`, else x `scale`.

    A causal query sees no later key.
    """
    made: Scores = _Weigh.apply(scores, bits, least, scale, is_causal)
    return made


class _Weigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Scores, bits: Bits, least: int, scale: float, is_causal: bool) -> Scores:
        scores = scores.contiguous()
        weights, dropped = torch.empty_like(scores), torch.empty_like(scores)
        queries, keys = scores.shape[-2:]
        ctx.sizes = (scores.numel() // keys, queries, keys, is_causal)
        ctx.scale = scale
        call("attention_weights", scores, bits.contiguous(), weights, dropped, *ctx.sizes, least, scale)
        ctx.save_for_backward(weights)
        return dropped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Scores) -> tuple[Scores, None, None, None, None]:
        """Return the gradient of the scores."""
        (weights,) = ctx.saved_tensors
        made = torch.empty_like(weights)
        call("attention_weights_gradient", gradient.contiguous(), weights, made, *ctx.sizes, ctx.scale)
        return made, None, None, None, None
