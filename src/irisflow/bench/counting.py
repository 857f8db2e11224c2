"""What a piece of work does: its arithmetic, its operators, the tensors it keeps for a backward pass, its peak memory."""

import ctypes
import re
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from irisflow.evaluation.arithmetic import FlopCounter

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_HIGH_WATER = "5"


@dataclass(frozen=True)
class Counted:
    """FLOPs of convolutions and of matrix products, torch's operators called, bytes kept for backward, peak memory."""

    convolution_flops: int
    matmul_flops: int
    num_operators: int
    kept_bytes: int
    peak_bytes: int


def count(work: Callable[[], object], device: torch.device, *, known: Iterable[Tensor] = ()) -> Counted:
    """Return what one run of the work does, and in another, what arithmetic it is as torch does it.

    Tensors of `known`, such as weights, are not counted as kept.
    """
    kept = Kept(known)
    memory = PeakMemory(device)
    operators = _Operators()  # type: ignore[no-untyped-call]
    with memory, operators, kept.watching():
        work()
    with FlopCounter() as flops:
        work()
    convolutions = sum(number for name, number in flops.by_operator.items() if "convolution" in name)
    products = flops.by_operator.total() - convolutions
    return Counted(convolutions, products, operators.num_calls, kept.num_bytes, memory.peak_bytes)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that reach a device."""

    num_calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_calls += 1
        return func(*args, **(kwargs or {}))


class Kept:
    """Sums the storages that autograd keeps for backward passes, each once while it lives."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._seen: set[tuple[int, int]] = set()

    @property
    def num_bytes(self) -> int:
        """Bytes of the storages seen."""
        return sum(size for _, size in self._seen)

    def watching(self) -> Any:
        """Return a context in which kept tensors are noted and left as they are."""
        return torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._seen.add((storage.data_ptr(), storage.nbytes()))
        return tensor


class PeakMemory:
    """Measures the most memory that a block needed: all that lies on a GPU, or by how much this process grew."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = 0
        else:
            give_back_freed_memory()
            self.before = resident_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        is_cuda = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if is_cuda else high_water_bytes()
        self.peak_bytes = max(0, peak - self.before)


def give_back_freed_memory() -> None:
    """Return freed memory to the system and forget the high-water mark, where the system (Linux, glibc) can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_HIGH_WATER, encoding="ascii")


def resident_bytes() -> int:
    """Return this process's memory now; its highest so far where the system does not tell."""
    return _status("VmRSS") or _highest_ever()


def high_water_bytes() -> int:
    """Return this process's highest memory since the mark was reset."""
    return _status("VmHWM") or _highest_ever()


def _status(key: str) -> int:
    found = (
        re.search(rf"^{key}:\s+(\d+) kB$", STATUS.read_text("ascii"), re.MULTILINE)
        if STATUS.is_file()
        else None
    )
    return 1024 * int(found[1]) if found else 0


def _highest_ever() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
