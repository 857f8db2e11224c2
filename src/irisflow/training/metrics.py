"""Where a run's numbers go: JSON lines always, Weights & Biases where asked for."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from irisflow import schema
from irisflow.errors import ConfigError
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


class WandbSink:
    """Weights & Biases, in the mode that `wandb.mode` names."""

    def __init__(self, settings: schema.Wandb, *, folder: Path, config: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        try:
            self.run = wandb.init(
                mode=settings.mode,
                project=settings.project,
                entity=settings.entity,
                name=settings.name,
                group=settings.group,
                tags=list(settings.tags or []),
                notes=settings.notes,
                config=config,
                dir=str(folder),
            )
        except (wandb.errors.UsageError, wandb.errors.CommError) as error:
            raise ConfigError(
                f"wandb.mode=online: {' '.join(str(error).split())}. Log in with `wandb login`, or use wandb.mode=offline."
            ) from None

    def write(self, metrics: Metrics) -> None:
        """Log one epoch."""
        self.run.log(dict(metrics))

    def write_timings(self, timings: Metrics) -> None:
        """Log what the epoch's phases took, as a row of its own: the epoch's numbers do not wait for the checkpoint."""
        self.run.log(dict(timings))

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def json_lines(rows: Sequence[Metrics]) -> bytes:
    """Return rows as JSON lines, keys in their order; not-finite numbers are refused."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def write_json_lines(path: Path, rows: Sequence[Metrics]) -> None:
    """Replace a file by the rows: a reader never sees half a line."""
    write_atomically(path, json_lines(rows))
