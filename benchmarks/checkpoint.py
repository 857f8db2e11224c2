"""Prints as JSON what a checkpoint of a training at scale `full` costs: `./run python benchmarks/checkpoint.py FOLDER`.

The networks and optimizers have IRIS's sizes and random content; the replay buffer holds `--steps` random frames, which
came in pieces of an epoch each. A checkpoint is made after each of the last `--saves` epochs, then loaded.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from irisflow import params
from irisflow.data.replay import ReplayBuffer
from irisflow.params import Choice
from irisflow.records import Episode
from irisflow.stages.session import prepare
from irisflow.training.checkpoint import Checkpoints
from irisflow.training.device import computing_context
from irisflow.training.loop import Trainer

EPOCH_STEPS = 200


def trainer_of_full_size() -> Trainer:
    """Return a trainer on Catch of scale `full`, without LPIPS, whose optimizers have moments."""
    overrides = (
        "env.train.id=Catch",
        "common.device=cpu",
        "reconstruction=l1",
        "collection.train.stop_after_epochs=500",
    )
    choice = Choice("full", variant="iris", overrides=overrides)
    settings = params.stage_settings("train_agent", params.compose(choice))
    trainer = prepare(settings, scale="full", game="Catch").trainer
    for part in trainer.components.values():
        for parameter in part.module.parameters():
            parameter.grad = torch.randn_like(parameter)
        part.optimizer.step()
    return trainer


def collect(replay: ReplayBuffer, rng: np.random.Generator) -> None:
    """Add the steps of an epoch."""
    ends = np.zeros(EPOCH_STEPS, np.bool_)
    frames = rng.integers(256, size=(EPOCH_STEPS, 3, 64, 64), dtype=np.uint8)
    actions = np.zeros(EPOCH_STEPS, np.int64)
    replay.extend(Episode(frames, actions, np.zeros(EPOCH_STEPS, np.float32), ends, ends))


def measure(folder: Path, *, num_steps: int, num_saves: int) -> dict[str, float]:
    """Return seconds and bytes."""
    trainer, rng, seconds = trainer_of_full_size(), np.random.default_rng(0), []
    checkpoints = Checkpoints(folder, digest="d", context=computing_context(trainer.device))
    num_epochs = num_steps // EPOCH_STEPS
    for epoch in range(num_epochs):
        collect(trainer.replay, rng)
        start = time.monotonic()
        if epoch >= num_epochs - num_saves or epoch % 25 == 24:
            newest = checkpoints.save(trainer.get_state(), about={}, steps=trainer.replay)
            seconds.append(time.monotonic() - start)
    start = time.monotonic()
    found = Checkpoints(folder, digest="d", context=checkpoints.context).load(trainer.check_state)
    assert found is not None
    trainer.set_state(found.state, found.steps())
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.agent.parameters()),
        "replay_steps": trainer.replay.num_steps,
        "save_median_s": round(statistics.median(seconds[-num_saves:]), 3),
        "save_worst_s": round(max(seconds[-num_saves:]), 3),
        "load_s": round(time.monotonic() - start, 3),
        "generation_mb": round(sum(path.stat().st_size for path in newest.iterdir()) / 1e6, 1),
        "replay_mb": round(sum(path.stat().st_size for path in (folder / "replay").iterdir()) / 1e6, 1),
    }


def main() -> None:
    """Measure in a temporary folder beneath the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="on the disk to measure")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--saves", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        print(json.dumps(measure(work, num_steps=options.steps, num_saves=options.saves), indent=1))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
