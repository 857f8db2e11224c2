"""Attention of whole sequences with dropout of its weights, and its gradients: `attention.cpp`."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from irisflow.kernels.dropout import least_kept, random_key
from irisflow.kernels.use import CHANNELS, call, can_use

Heads = Float[Tensor, "batch heads tokens width"]


def can_attend(query: Heads, keys: Heads, values: Heads) -> bool:
    """Return whether there is a kernel for as many queries as keys: heads are multiples of 16 wide."""
    are_alike = query.shape == keys.shape == values.shape
    return are_alike and query.shape[-1] % CHANNELS == 0 and can_use(query, keys, values)


def attended(query: Heads, keys: Heads, values: Heads, *, is_causal: bool, pdrop: float) -> Heads:
    """Return what each query attends to, if causal, only among the keys up to its own. Heads lie side by side.

    Each weight is dropped with a probability below 1.
    """
    given = query, keys, values
    if len({each.stride() for each in given}) > 1 or query.stride(-1) != 1:
        query, keys, values = (each.contiguous() for each in given)
    if not torch.is_grad_enabled():
        return _attended(query, keys, values, None, is_causal=is_causal, pdrop=pdrop)
    made: Heads = _Attend.apply(query, keys, values, is_causal, pdrop)
    return made


def _attended(
    query: Heads, keys: Heads, values: Heads, kept: Tensor | None, *, is_causal: bool, pdrop: float
) -> Heads:
    """Return what queries attend to; `kept` takes the weights for the gradients."""
    batch, heads, tokens, width = query.shape
    made = torch.empty(batch, tokens, heads, width)
    sizes = (*query.shape, *query.stride()[:-1], is_causal)
    key = random_key() if pdrop else 0
    call("attend", query, keys, values, kept, made, *sizes, key, least_kept(pdrop), 1 / (1 - pdrop))
    return made.transpose(1, 2)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Heads, keys: Heads, values: Heads, is_causal: bool, pdrop: float) -> Heads:
        batch, heads, tokens, _ = query.shape
        kept = torch.empty(batch, heads, call("attention_kept", tokens, is_causal))
        ctx.save_for_backward(query, keys, values, kept)
        ctx.is_causal, ctx.pdrop = is_causal, pdrop
        return _attended(query, keys, values, kept, is_causal=is_causal, pdrop=pdrop)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Heads) -> tuple[Heads, Heads, Heads, None, None]:
        """Return the gradients of query, keys and values."""
        query = ctx.saved_tensors[0]
        batch, heads, tokens, width = query.shape
        made = torch.empty(batch, tokens, 3, heads, width)
        sizes = (*query.shape, *query.stride()[:-1], ctx.is_causal)
        gradient = gradient.transpose(1, 2).contiguous()
        call("attend_gradient", *ctx.saved_tensors, gradient, made, *sizes, 1 / (1 - ctx.pdrop))
        of_query, of_keys, of_values = made.permute(2, 0, 3, 1, 4)
        return of_query, of_keys, of_values, None, None
