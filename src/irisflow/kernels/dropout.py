"""Dropout whose mask is drawn in passing, by a key that torch's generator draws: `dropout.cpp`, `random.hpp`."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from irisflow.kernels.use import call, can_use

Values = Float[Tensor, "*shape"]
STEPS = 2**32  # a probability is rounded to one of so many


def can_drop(values: Values) -> bool:
    """Return whether there is a kernel for these values: float32, on a CPU."""
    return can_use(values)


def dropped(values: Values, p: float) -> Values:
    """Return the values of which each is 0 with probability p, below 1, and the others are 1 / (1 - p) times as large."""
    values = values if _is_dense(values) else values.contiguous()
    key = random_key()
    if not torch.is_grad_enabled():
        return _dropped(values, p, key)
    made: Values = _Drop.apply(values, p, key)
    return made


def random_key() -> int:
    """Return 64 random bits of torch's generator, from which a kernel draws all that it needs."""
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))


def least_kept(p: float) -> int:
    """Return the least random word, of 32 bits, whose value is not dropped with probability p."""
    return min(round(p * STEPS), STEPS - 1)


def random_words(rows: int, places: int, key: int) -> Int64[Tensor, "{rows} {places}"]:
    """Return the words of 32 bits that a key gives to places: below `least_kept(p)` with probability p."""
    made = torch.empty(rows, places, dtype=torch.int32)
    call("draw_words", made, rows, places, key)
    return made.long() % STEPS


def _dropped(values: Values, p: float, key: int) -> Values:
    made = torch.empty_like(values)
    call("drop", values, made, values.numel(), key, least_kept(p), 1 / (1 - p))
    return made


def _is_dense(values: Values) -> bool:
    return values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last)


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Values, p: float, key: int) -> Values:
        ctx.p, ctx.key = p, key
        ctx.layout = torch.contiguous_format if values.is_contiguous() else torch.channels_last
        return _dropped(values, p, key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Values) -> tuple[Values, None, None]:
        """Return the gradient of the values: it is dropped as they were."""
        return _dropped(gradient.contiguous(memory_format=ctx.layout), ctx.p, ctx.key), None, None
