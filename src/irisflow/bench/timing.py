"""Seconds of repeated work: alone, or two ways of it by turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """When to stop repeating: after `most` runs, or after `budget_s` seconds but not before `least` runs."""

    budget_s: float
    least: int
    most: int


THOROUGH, HASTY = Effort(20.0, 3, 25), Effort(3.0, 3, 9)


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some numbers, and how many they are."""

    median: float
    min: float
    max: float
    num_runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one number or more."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def scaled(self, factor: float) -> "Spread":
        """Return the spread of the numbers times a positive factor."""
        return Spread(self.median * factor, self.min * factor, self.max * factor, self.num_runs)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return dict(vars(self))


def by_turns(
    ways: Sequence[Work], *, effort: Effort, device: torch.device, before: Work | None = None
) -> list[list[float]]:
    """Return the seconds of each run of each way. The ways alternate: A B A B, so that a pair meets the same machine.

    `before` comes before each run and does not count.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    start = time.perf_counter()
    for num_done in range(effort.most):
        if num_done >= effort.least and time.perf_counter() - start >= effort.budget_s:
            break
        for way, measured in zip(ways, seconds, strict=True):
            if before is not None:
                before()
            measured.append(seconds_of(way, device))
    return seconds


def seconds_of(work: Work, device: torch.device) -> float:
    """Return how long the work takes, until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until a CUDA device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
