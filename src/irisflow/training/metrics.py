"""Where a run's numbers go."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from irisflow.storage import write_atomically

Metrics = Mapping[str, float | int]


class MetricsSink(Protocol):
    """Takes the numbers of one epoch after another."""

    def write(self, metrics: Metrics) -> None:
        """Take one epoch's numbers, before its checkpoint is written."""

    def write_timings(self, timings: Metrics) -> None:
        """Take what the epoch's phases took, the checkpoint among them."""

    def close(self) -> None:
        """Finish."""


def with_duration(timings: Metrics) -> dict[str, float]:
    """Return what an epoch's phases took, and `duration`: the hours of all of them, as IRIS logs it."""
    seconds = sum(value for name, value in timings.items() if name.startswith("seconds/"))
    return {**timings, "duration": seconds / 3600}


def json_lines(rows: Sequence[Metrics]) -> bytes:
    """Return rows as JSON lines, keys in their order; not-finite numbers are refused."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def write_json_lines(path: Path, rows: Sequence[Metrics]) -> None:
    """Replace a file by the rows: a reader never sees half a line."""
    write_atomically(path, json_lines(rows))
