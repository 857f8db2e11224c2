"""Drives a trainer to its end: resumes, records, writes checkpoints after each epoch and when it is asked to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from irisflow import faults, interruption, schema
from irisflow.errors import DataError, DivergedError
from irisflow.interruption import Interrupted
from irisflow.progress import announce, say
from irisflow.provenance import Cost
from irisflow.training.checkpoint import Checkpoint, Checkpoints
from irisflow.training.device import computing_context
from irisflow.training.loop import EpochReport, Trainer
from irisflow.training.metrics import MetricsSink
from irisflow.training.watch import Usage, watched

EpochHook = Callable[["History", Trainer], None]
ReportHook = Callable[[EpochReport, "History", Trainer], None]
SAME_COMMAND = "the same command goes on from there"


@dataclass
class History:
    """All that a run has reported so far: rows of numbers, rows of what phases took, evaluation episodes by step.

    `episodes` is for whoever adds rows of its own before an epoch is saved; training leaves it empty.
    """

    metrics: list[dict[str, float]] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, report: EpochReport) -> None:
        """Append one epoch."""
        self.metrics.append({"epoch": report.epoch, "env_steps": report.env_steps, **report.metrics})
        self.timings.append({"epoch": report.epoch})
        for phase, usage in report.usage.items():
            self.add_usage(phase, usage)
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

    def add_usage(self, phase: str, usage: Usage) -> None:
        """Add what a phase of the newest epoch took."""
        self.timings[-1] |= usage.row(phase)


def train(
    trainer: Trainer,
    settings: schema.Settings,
    cost: Cost,
    *,
    checkpoint: Path,
    digest: str,
    what: str,
    sinks: Sequence[MetricsSink] = (),
    before_save: ReportHook | None = None,
    after_epoch: EpochHook | None = None,
    how_to_go_on: str = SAME_COMMAND,
) -> History:
    """Return the history of the whole run, of which only the part after the newest checkpoint is done now.

    `checkpoint` is the folder of the run's checkpoints. `before_save` is told of an epoch before sinks are, and may add to
    the history; a run that was killed and goes on may tell it of the same epoch once more, with the same numbers. A
    request to stop writes a checkpoint at the next safe point and raises Interrupted, which says where and `how_to_go_on`.
    Raises DivergedError, naming the last good checkpoint.
    """
    run = _Run(
        trainer,
        cost,
        Checkpoints(checkpoint, digest=digest, context=computing_context(trainer.device)),
        should_save=settings.common.do_checkpoint,
    )
    with interruption.deferred():
        run.resume(what)
        faults.point("run.resumed")
        try:
            _epochs(run, settings, what, sinks, before_save, after_epoch)
        except Interrupted as stop:
            raise Interrupted(stop.request, run.saved_at_stop(how_to_go_on)) from None
        except DivergedError as error:
            raise DivergedError(f"{error} {run.advice}") from None
    return run.history


@dataclass
class _Run:
    """A trainer, what it has reported, and its checkpoints."""

    trainer: Trainer
    cost: Cost
    checkpoints: Checkpoints
    should_save: bool
    history: History = field(default_factory=History)

    def resume(self, what: str) -> None:
        """Put the trainer where the newest checkpoint was made, if there is one."""
        found = self.checkpoints.load(self.trainer.check_state)
        if found is not None:
            self._restore(found)
            say(f"{what} goes on {self.trainer.position} from {found.folder}")

    def _restore(self, found: Checkpoint) -> None:
        try:
            self.trainer.set_state(found.state, found.steps())
            self.cost.go_on(float(found.state["wall_s"]))
            self.history = History(**found.state["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"checkpoint {found.folder} holds no state of this trainer ({type(error).__name__}: {error})."
                f" Delete {found.folder.parent} to start anew."
            ) from None

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        trainer = self.trainer
        state = {**trainer.get_state(), "history": vars(self.history), "wall_s": self.cost.wall_s}
        about = {"position": trainer.position, "env_steps": trainer.env_steps, **trainer.num_updates}
        self.checkpoints.save(state, about=about, steps=trainer.replay)

    def save_watched(self) -> None:
        """Write a checkpoint after an epoch. It cannot hold what it took itself: the next one does."""
        usage: dict[str, Usage] = {}
        announce("checkpoint")
        with watched(usage, "checkpoint", self.trainer.device):
            self.save()
        self.history.add_usage("checkpoint", usage["checkpoint"])

    def saved_at_stop(self, how_to_go_on: str) -> str:
        """Write a checkpoint and return where that is and how to go on from it."""
        position = self.trainer.position
        if not self.should_save:
            return f" {position}; common.do_checkpoint is off, so {self.checkpoints.folder} has nothing new"
        self.save()
        return f" {position}, saved in {self.checkpoints.newest}; {how_to_go_on}"

    @property
    def advice(self) -> str:
        """What to do about a run that diverged: going on only diverges again."""
        good = self.checkpoints.newest or "none yet"
        total = sum(self.trainer.num_updates.values()) + 1
        return (
            f"It was update {total} in all, after {self.trainer.env_steps} steps in the environment; last good"
            f" checkpoint: {good}. Lower training.learning_rate or max_grad_norm; the same command ends here again."
        )


def _epochs(
    run: _Run,
    settings: schema.Settings,
    what: str,
    sinks: Sequence[MetricsSink],
    before_save: ReportHook | None,
    after_epoch: EpochHook | None,
) -> None:
    """Train the epochs that are left."""
    trainer, cost = run.trainer, run.cost
    first, start = trainer.epoch, cost.wall_s
    for report in trainer.epochs():
        run.history.add(report)
        if before_save is not None:
            before_save(report, run.history, trainer)
        for sink in sinks:
            sink.write(run.history.metrics[-1])
        if run.should_save:
            run.save_watched()
        faults.point("epoch.saved")
        for sink in sinks:
            sink.write_timings(run.history.timings[-1])
        rate = (cost.wall_s - start) / max(1, report.epoch - first)
        left = rate * (settings.common.epochs - report.epoch)
        say(f"{what} {_summary(report, settings.common.epochs)}, {tqdm.format_interval(left)} left")
        if after_epoch is not None:
            after_epoch(run.history, trainer)
        if report.epoch < settings.common.epochs:
            interruption.check()


def _summary(report: EpochReport, num_epochs: int) -> str:
    seconds = sum(usage.seconds for usage in report.usage.values())
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
