"""The device that a run computes on."""

import ctypes
import subprocess
from typing import Any

import numpy as np
import torch

from irisflow.cards import settle
from irisflow.errors import ConfigError, ResourceError
from irisflow.kernels.build import SWITCH, kernels
from irisflow.progress import say

# glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX and M_ARENA_MAX, and what they are set to.
KEEP_FREED_MEMORY = {-1: -1, -4: 0, -8: 1}


def choose_device(name: str, *, num_threads: int) -> torch.device:
    """Return the device that `common.device` names and set torch's CPU thread count.

    With `auto` on a machine with several GPUs, that is the one on which the fewest jobs are.

    Raises ConfigError for an unknown name or switch of the kernels, ResourceError for a CUDA device that is not there.
    """
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    settle(name)
    device = _named(name)
    missing = kernels().missing if device.type == "cpu" else None
    if missing and not missing.startswith(SWITCH):
        say(
            f"{missing}. Torch computes everything, about half as fast as kernels would. Install g++, or name one in CXX."
        )
    return device


def _named(name: str) -> torch.device:
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
        "kernels": _kernels_of(device),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def computing_record(device: torch.device, *, precision: str = "float32") -> dict[str, Any]:
    """Return on what and how torch computes, as JSON-able data for the provenance of a result.

    `precision` is that of the passes through the models. GPU, driver and CUDA are there only where a GPU is used.
    """
    found = {
        "device": str(device),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": _kernels_of(device),
        "precision": precision,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
    }
    if device.type == "cuda":
        gpu = {"gpu": torch.cuda.get_device_name(device), "driver": driver_version()}
        found |= {**gpu, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return found


def _kernels_of(device: torch.device) -> str:
    """Return the compiler of the kernels that compute on a device, or `none`."""
    return (kernels().compiler if device.type == "cpu" else None) or "none"


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver, or None where `nvidia-smi` does not tell it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0] if told else None
