"""Named random streams: each consumer has its own, so that adding one moves no other."""

import random
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


@runtime_checkable
class Noise(Protocol):
    """Hands out exponential numbers; what draws from it alone does the same again with the same numbers."""

    def exponential_like(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return numbers of mean 1, as many as there are values, on their device."""
        ...


Source = torch.Generator | Noise


class DrawnNoise:
    """Numbers that were drawn beforehand, in order: no generator stands in the way of replaying what uses them."""

    def __init__(self, numbers: Float[Tensor, " numbers"]) -> None:
        self._numbers, self._num_used = numbers, 0

    def exponential_like(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the next numbers. Raises ValueError where they do not suffice."""
        first, self._num_used = self._num_used, self._num_used + values.numel()
        if self._num_used > len(self._numbers):
            raise ValueError(f"{self._num_used} numbers are wanted, {len(self._numbers)} were drawn")
        return self._numbers[first : self._num_used].view(values.shape)


class CountedNoise:
    """Numbers of a generator, counted: tells how many must be drawn beforehand."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self.num_used = generator, 0

    def exponential_like(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return new numbers."""
        self.num_used += values.numel()
        return exponential_like(values, self._generator)


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
    """Return one class per row, drawn by the Gumbel-max trick: nothing leaves the device.

    `greedy` takes the likeliest class and leaves the generator as it is.
    """
    if greedy:
        return logits.argmax(dim=-1)
    logits = logits.float()
    return (logits - exponential_like(logits, generator).log()).argmax(dim=-1)


def exponential_like(values: Float[Tensor, "*shape"], generator: Source) -> Float[Tensor, "*shape"]:
    """Return exponential numbers of mean 1, as many as there are values, on their device."""
    if isinstance(generator, torch.Generator):
        return torch.empty_like(values).exponential_(generator=generator)
    return generator.exponential_like(values)
