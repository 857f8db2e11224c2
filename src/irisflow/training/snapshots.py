"""Tokenizer and world model at a few moments of training, so that what training does to them can be measured later."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from irisflow.behaviour.agent import Agent
from irisflow.storage import open_artefact, publish, verify
from irisflow.training.metrics import Metrics

PARTS = ("tokenizer", "world_model")
LEFT_OUT = "tokenizer.reconstruction."  # the loss's own networks
STEPS = "env_steps"
WEIGHTS = "weights.safetensors"


class Snapshots:
    """Writes one folder per moment while training goes on: before the first epoch, then after evenly spaced ones.

    A metrics sink: sinks are told of an epoch before its checkpoint is written, so a run that was killed and goes on
    has the snapshots of one that was not. The finished agent is no snapshot.
    """

    def __init__(self, agent: Agent, folder: Path, *, num_epochs: int, num_snapshots: int) -> None:
        self.agent, self.folder = agent, folder
        moments = np.linspace(0, num_epochs, num_snapshots + 1)[:-1]
        self.epochs = sorted({int(moment) for moment in moments.round()})

    def begin(self) -> None:
        """Write the first snapshot: the agent must be as it was initialised."""
        self.write({"epoch": 0, STEPS: 0})

    def write(self, metrics: Metrics) -> None:
        """Write a snapshot if this epoch has one."""
        epoch = int(metrics["epoch"])
        if epoch in self.epochs:
            content = {
                name: value.cpu().contiguous()
                for name, value in self.agent.state_dict().items()
                if name.startswith(tuple(f"{part}." for part in PARTS)) and not name.startswith(LEFT_OUT)
            }
            content[STEPS] = torch.tensor(int(metrics[STEPS]))
            weights = save({f"{_prefix(epoch)}{k}": v for k, v in content.items()})
            about = {"epoch": epoch}
            publish(self._path(epoch), {WEIGHTS: weights}, kind="snapshot", digest="", about=about)

    def write_timings(self, timings: Metrics) -> None:
        """Do nothing: a snapshot holds weights."""

    def close(self) -> None:
        """Do nothing: every snapshot is on disk."""

    def collected(self) -> bytes:
        """Return all snapshots as one safetensors file. Raises DataError if one is damaged or missing."""
        tensors: dict[str, Tensor] = {}
        for epoch in self.epochs:
            tensors |= load(open_artefact(self._path(epoch), kind="snapshot").read(WEIGHTS))
        return save(tensors)

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05}"


def read_snapshots(path: Path) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield each snapshot of an agent, oldest first: its own environment steps until then, and tensors by name.

    One at a time is in memory. Raises DataError if the file is not the one that the agent's manifest vouches for.
    """
    verify(path)
    with safe_open(path, "pt") as file:
        for prefix in sorted({f"{name.partition('.')[0]}." for name in file.keys()}):  # noqa: SIM118
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
            yield int(tensors.pop(STEPS)), tensors


def _prefix(epoch: int) -> str:
    return f"epoch-{epoch:05}."
