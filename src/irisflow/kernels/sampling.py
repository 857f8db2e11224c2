"""Classes drawn with the numbers of torch's generator on a CPU, which torch itself works out one by one: `sampling.cpp`."""

from ctypes import CDLL, c_int64, c_void_p
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.kernels.build import library

NUM_COMPARED = 2000  # numbers


@cache
def can_draw() -> bool:
    """Return whether there is a kernel, and torch draws as it does: the same numbers, and the same afterwards."""
    if library() is None:
        return False
    ours, torchs = (torch.Generator().manual_seed(1) for _ in range(2))
    for generator in (ours, torchs):
        torch.rand(3, generator=generator)
    expected = torch.empty(NUM_COMPARED).exponential_(generator=torchs)
    is_known = ours.get_state().shape == (5056,)
    return (
        is_known
        and torch.equal(exponentials(NUM_COMPARED, ours), expected)
        and torch.equal(ours.get_state(), torchs.get_state())
    )


def exponentials(count: int, generator: torch.Generator) -> Float[Tensor, " count"]:
    """Return exponential numbers of mean 1, as torch would draw them."""
    state, made = generator.get_state(), torch.empty(count)
    _kernels().draw_exponentials(state.data_ptr(), count, made.data_ptr())
    generator.set_state(state)
    return made


def classes(logits: Float[Tensor, "*batch classes"], generator: torch.Generator) -> Int64[Tensor, "*batch"]:
    """Return one class for each row by the Gumbel-max trick: the largest logit less an exponential number's logarithm."""
    logits, state = logits.detach().contiguous(), generator.get_state()
    made = torch.empty(logits.shape[:-1], dtype=torch.int64)
    sizes = (made.numel(), logits.shape[-1])
    _kernels().draw_classes(state.data_ptr(), logits.data_ptr(), *sizes, made.data_ptr())
    generator.set_state(state)
    return made


@cache
def _kernels() -> CDLL:
    found = library()
    assert found is not None
    found.draw_exponentials.argtypes = [c_void_p, c_int64, c_void_p]
    found.draw_classes.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_void_p]
    return found
