"""Named random streams: each consumer has its own, so that adding one moves no other."""

import math
import random
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.kernels.sampling import can_draw, drawn

SHARES = 2**40  # a probability is divided into: a float32's digits, and classes of 1e-12


@runtime_checkable
class Noise(Protocol):
    """Hands out random numbers; what draws from it alone does the same again with the same numbers."""

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "*shape"]:
        """Return float64 numbers in [0, 1)."""
        ...


Source = torch.Generator | Noise


class DrawnNoise:
    """Numbers that were drawn beforehand, in order: no generator stands in the way of replaying what uses them."""

    def __init__(self, numbers: Float[Tensor, " numbers"]) -> None:
        self._numbers, self._num_used = numbers, 0

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "*shape"]:
        """Return the next numbers, where they lie. Raises ValueError where they do not suffice."""
        del device
        first, self._num_used = self._num_used, self._num_used + math.prod(shape)
        if self._num_used > len(self._numbers):
            raise ValueError(f"{self._num_used} numbers are wanted, {len(self._numbers)} were drawn")
        return self._numbers[first : self._num_used].view(shape)


class CountedNoise:
    """Numbers of a generator, counted: tells how many must be drawn beforehand."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self.num_used = generator, 0

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "*shape"]:
        """Return new numbers."""
        self.num_used += math.prod(shape)
        return uniform(shape, self._generator, device=device)


def derived_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on the run's seed and on the stream's name only."""
    words = [seed, *(int.from_bytes(str(name).encode(), "little") for name in names)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator of a named stream."""
    return np.random.default_rng(derived_seed(seed, *names))


def torch_stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the torch generator of a named stream on a device."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, *names))


def seed_everything(seed: int, *names: str | int) -> None:
    """Seed the global generators: dropout and weight initialisation draw from torch's."""
    value = derived_seed(seed, *names)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def sample_categorical(
    logits: Float[Tensor, "*batch classes"], *, generator: Source, greedy: bool = False
) -> Int64[Tensor, "*batch"]:
    """Return one class per row: the one at a uniformly drawn place among the shares of all, end to end.

    Shares are whole numbers, whose sums are exact in any order, on any device. Nothing leaves the device. `greedy` takes
    the likeliest class and leaves the generator as it is.
    """
    if greedy:
        return logits.argmax(dim=-1)
    numbers = uniform(logits.shape[:-1], generator, device=logits.device)
    if can_draw(logits):
        return drawn(logits, numbers, shares=SHARES)
    shares = (logits.float().softmax(dim=-1) * SHARES).long()
    ends = shares.cumsum(dim=-1)
    place = numbers * ends[..., -1]
    found = torch.searchsorted(ends, place.long()[..., None], right=True)[..., 0]
    return found.clamp(max=logits.shape[-1] - 1)  # logits that are not numbers would lead beyond it


def uniform(
    shape: tuple[int, ...], generator: Source, *, device: torch.device | str = "cpu"
) -> Float[Tensor, "*shape"]:
    """Return float64 numbers in [0, 1) on a device, which must be the generator's."""
    if isinstance(generator, torch.Generator):
        return torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
    return generator.uniform(shape, torch.device(device))
