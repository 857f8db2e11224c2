"""Drives a trainer to its end: resumes, records, checkpoints after each epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from irisflow import schema
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.training.checkpoint import load_checkpoint, save_checkpoint
from irisflow.training.loop import EpochReport, Trainer
from irisflow.training.metrics import MetricsSink

EpochHook = Callable[["History", Trainer], None]


@dataclass
class History:
    """All that a run has reported so far: rows of numbers, rows of seconds, and evaluation episodes by step."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def add(self, report: EpochReport) -> None:
        """Append one epoch."""
        self.metrics.append({"epoch": report.epoch, "env_steps": report.env_steps, **report.metrics})
        seconds = {f"seconds/{phase}": round(value, 4) for phase, value in report.seconds.items()}
        self.timings.append({"epoch": report.epoch, **seconds})
        self.curve += [
            {
                "env_step": report.env_steps,
                "episode": index,
                "return_raw": episode.score,
                "length": episode.length,
                "truncated": episode.truncated,
                "eval_seed": episode.seed,
            }
            for index, episode in enumerate(report.played)
        ]


def train(
    trainer: Trainer,
    settings: schema.Settings,
    cost: Cost,
    *,
    checkpoint: Path,
    digest: str,
    what: str,
    sinks: Sequence[MetricsSink] = (),
    after_epoch: EpochHook | None = None,
) -> History:
    """Return the history of the whole run, of which only the part after the checkpoint is done now."""
    history = _resumed(trainer, cost, checkpoint=checkpoint, digest=digest, what=what)
    first, start = trainer.epoch, cost.wall_s
    for report in trainer.epochs():
        history.add(report)
        for sink in sinks:
            sink.write(history.metrics[-1])
        if settings.common.do_checkpoint:
            state = {**trainer.get_state(), "history": vars(history), "wall_s": cost.wall_s}
            save_checkpoint(checkpoint, state, digest=digest)
        rate = (cost.wall_s - start) / (report.epoch - first)
        left = rate * (settings.common.epochs - report.epoch)
        say(f"{what} {_summary(report, settings.common.epochs)}, {tqdm.format_interval(left)} left")
        if after_epoch is not None:
            after_epoch(history, trainer)
    return history


def _resumed(trainer: Trainer, cost: Cost, *, checkpoint: Path, digest: str, what: str) -> History:
    state = load_checkpoint(checkpoint, digest=digest)
    if state is None:
        return History()
    trainer.set_state(state)
    cost.earlier_s = float(state["wall_s"])
    say(f"{what} goes on after epoch {trainer.epoch} from {checkpoint}")
    return History(**state["history"])


def _summary(report: EpochReport, num_epochs: int) -> str:
    seconds = sum(report.seconds.values())
    parts = [f"epoch {report.epoch}/{num_epochs}", f"{report.env_steps} steps", f"{seconds:.1f} s"]
    if report.played:
        mean = sum(episode.score for episode in report.played) / len(report.played)
        parts.append(f"test return {mean:.2f} over {len(report.played)} episodes")
    parts += [
        f"{name.split('/')[0].replace('_', ' ')} loss {value:.3f}"
        for name, value in report.metrics.items()
        if name.endswith("/train/total")
    ]
    return ", ".join(parts)
