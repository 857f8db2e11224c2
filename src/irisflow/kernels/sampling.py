"""Classes drawn from logits in one call, where torch takes nine: `sampling.cpp`."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.kernels.use import call, can_use


def can_draw(logits: Float[Tensor, "*batch classes"]) -> bool:
    """Return whether there is a kernel for logits: float32, on a CPU."""
    return can_use(logits) and logits.numel() > 0


def drawn(
    logits: Float[Tensor, "*batch classes"], numbers: Float[Tensor, "*batch"], *, shares: int
) -> Int64[Tensor, "*batch"]:
    """Return the class of each row at whose share its float64 number lies, in [0, 1): `shares` are dealt out to all."""
    made = torch.empty(logits.shape[:-1], dtype=torch.long)
    sizes = (math.prod(made.shape), logits.shape[-1], float(shares))
    call("draw_classes", logits.detach().contiguous(), numbers.contiguous(), made, *sizes)
    return made
