"""What each phase of training takes: seconds, work done, how busy it keeps processors and GPU, and memory.

Nothing here may reach `metrics.jsonl`: a run that was stopped and goes on must end in the bytes of one that was not.
"""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import psutil
import torch

SECONDS_BETWEEN_READINGS = 1.0
KB_PER_MB, BYTES_PER_MB = 2**10, 2**20


@dataclass
class Usage:
    """What one phase of one epoch took, over all attempts at it. None: this machine has nothing to read it from."""

    seconds: float = 0.0
    num_updates: int = 0
    num_steps: int = 0  # in environments
    num_frames: int = 0  # drawn from the replay buffer, or imagined
    cpu_seconds: float = 0.0
    thread_seconds: float = 0.0  # wall clock times torch's threads
    rss_mb: float = 0.0
    peak_rss_mb: float = 0.0
    gpu_utilisation: float | None = None
    cuda_peak_mb: float | None = None

    def row(self, phase: str) -> dict[str, float]:
        """Return rates, shares and megabytes under names such as `updates_per_s/tokenizer`.

        What was not done or not measured is absent. `cpu_utilisation` counts the processes of environments too, so it may
        exceed 1; `peak_rss_mb` is the process's since its start, `cuda_peak_mb` the phase's.
        """
        values = {
            "seconds": self.seconds,
            "updates_per_s": self._rate(self.num_updates),
            "steps_per_s": self._rate(self.num_steps),
            "frames_per_s": self._rate(self.num_frames),
            "cpu_utilisation": self.cpu_seconds / self.thread_seconds if self.thread_seconds else None,
            "gpu_utilisation": self.gpu_utilisation,
            "rss_mb": self.rss_mb,
            "peak_rss_mb": self.peak_rss_mb,
            "cuda_peak_mb": self.cuda_peak_mb,
        }
        return {f"{name}/{phase}": round(value, 4) for name, value in values.items() if value is not None}

    def _rate(self, amount: int) -> float | None:
        return amount / self.seconds if amount and self.seconds else None


@contextmanager
def watched(usage: dict[str, Usage], phase: str, device: torch.device) -> Iterator[Usage]:
    """Add to a phase's usage what a block takes, also if it does not end; the block adds what it has done."""
    found = usage.setdefault(phase, Usage())
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    start, cpu_start = time.monotonic(), cpu_seconds()
    with Sampler(lambda: gpu_utilisation(device)) if is_cuda else Sampler(None) as sampler:
        try:
            yield found
        finally:
            seconds = time.monotonic() - start
            if sampler.mean is not None:
                found.gpu_utilisation = _weighted(found.gpu_utilisation, found.seconds, sampler.mean, seconds)
            found.seconds += seconds
            found.cpu_seconds += max(0.0, cpu_seconds() - cpu_start)
            found.thread_seconds += seconds * torch.get_num_threads()
            found.rss_mb = psutil.Process().memory_info().rss / BYTES_PER_MB
            peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the system counts a little late
            found.peak_rss_mb = max(peak_kb / KB_PER_MB, found.rss_mb)
            if is_cuda:
                peak = torch.cuda.max_memory_allocated(device) / BYTES_PER_MB
                found.cuda_peak_mb = max(peak, found.cuda_peak_mb or 0.0)


def _weighted(earlier: float | None, earlier_s: float, later: float, later_s: float) -> float:
    """Return the mean over both times; of the later one where the earlier was not measured."""
    if earlier is None or not earlier_s + later_s:
        return later
    return (earlier * earlier_s + later * later_s) / (earlier_s + later_s)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all that it started, living or ended, to 10 ms.

    An environment's process is a child of the fork server: when it has ended, its seconds stand in that one's children's.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = psutil.Process().children(recursive=True)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_seconds_of, living))


def _cpu_seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended meanwhile
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def gpu_utilisation(device: torch.device) -> float | None:
    """Return the share of the last moment in which the GPU ran a kernel; None where pynvml is not there or refuses."""
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # pynvml's own errors are no RuntimeErrors
        return None


class Sampler:
    """Reads a number again and again in a thread of its own while a block runs; `None` reads nothing."""

    def __init__(
        self, read: Callable[[], float | None] | None, *, seconds_between: float = SECONDS_BETWEEN_READINGS
    ) -> None:
        self._read, self._seconds_between = read, seconds_between
        self._readings: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True) if read else None

    @property
    def mean(self) -> float | None:
        """The mean of the readings so far, None without any."""
        return sum(self._readings) / len(self._readings) if self._readings else None

    def __enter__(self) -> "Sampler":
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        while self._read and not self._is_over.wait(self._seconds_between):
            reading = self._read()
            if reading is None:
                return
            self._readings.append(reading)
