"""Named random streams: each consumer has its own, so that adding one moves no other."""

import random

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


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
    logits: Float[Tensor, "*batch classes"], *, generator: torch.Generator, greedy: bool = False
) -> Int64[Tensor, "*batch"]:
    """Return one class per row, drawn by the Gumbel-max trick: nothing leaves the device.

    `greedy` takes the likeliest class and leaves the generator as it is.
    """
    if greedy:
        return logits.argmax(dim=-1)
    logits = logits.float()
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - noise.log()).argmax(dim=-1)
