"""The device that a run computes on."""

import ctypes

import numpy as np
import torch

from irisflow.cards import settle
from irisflow.errors import ConfigError, ResourceError

# glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX and M_ARENA_MAX, and what they are set to.
KEEP_FREED_MEMORY = {-1: 2**31 - 1, -4: 0, -8: 1}


def choose_device(name: str, *, num_threads: int) -> torch.device:
    """Return the device that `common.device` names and set torch's CPU thread count.

    With `auto` on a machine with several GPUs, that is the one on which the fewest jobs are.

    Raises ConfigError for an unknown name, ResourceError for a CUDA device that is not there.
    """
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    settle(name)
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"common.device is {name!r}; allowed: auto, cpu, cuda:0, cuda:1, ...") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"common.device is {name!r}; allowed: auto, cpu, cuda:0, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"common.device is {name!r} but this machine has {torch.cuda.device_count()} CUDA devices."
            " Type common.device=cpu."
        )
    return device


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees, where its C library is glibc.

    Otherwise every tensor of 32 MB or more is mapped anew, page by page: an addition of two such tensors takes ten times as
    long. What is kept is reused by the next update; the peak does not grow.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in KEEP_FREED_MEMORY.items():
            library.mallopt(option, value)


def computing_context(device: torch.device) -> dict[str, str | int]:
    """Return what else than configuration and code decides the bytes of a result."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
