"""The live display of a run by hand: epoch, phase, losses, returns, rates, time left and memory, on a terminal."""

import os
import resource
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from irisflow.training.metrics import Metrics

LEAST_COLUMNS, LEAST_ROWS, MOST_COLUMNS = 72, 20, 110
ECHO = (
    "^C"  # which a terminal shows where the cursor is: in the last column it would move the display by a line
)
REFRESHES_PER_SECOND = 2.0
NUM_RETURNS = 40
BARS = "▁▂▃▄▅▆▇█"
PHASES = ("collect", "tokenizer", "world_model", "actor_critic", "evaluate", "checkpoint")


def fits(stream: TextIO) -> bool:
    """Return whether a terminal is large enough."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return False
    return columns >= LEAST_COLUMNS and rows >= LEAST_ROWS


class LiveDisplay:
    """Takes what training reports (`progress.Display`) and an epoch's numbers (an outlet), and redraws twice a second."""

    def __init__(self, *, title: str, folder: Path, console: Console | None = None) -> None:
        self.title, self.folder = title, folder
        self.console = console or Console(stderr=True)
        self.phase, self.epoch, self.num_epochs = "start", 0, 0
        self.work: tuple[str, str, int | None] | None = None
        self.num_done, self.work_began = 0, time.monotonic()
        self.began, self.first_epoch = time.monotonic(), 0
        self.metrics: dict[str, float] = {}
        self.before: dict[str, float] = {}
        self.timings: dict[str, float] = {}
        self.returns: dict[str, deque[float]] = {}
        self._live = Live(
            get_renderable=self.render,
            console=self.console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def announce(self, phase: str, epoch: int | None, num_epochs: int | None) -> None:
        """Take which phase of training begins."""
        self.phase, self.work = phase, None
        if epoch is not None and num_epochs is not None:
            if not self.first_epoch:
                self.first_epoch, self.began = epoch, time.monotonic()
            self.epoch, self.num_epochs = epoch, num_epochs

    def begin(self, what: str, unit: str, total: int | None) -> None:
        """Take that work of so many units begins."""
        self.work = (what, unit, total)
        self.num_done, self.work_began = 0, time.monotonic()

    def advance(self) -> None:
        """Take that one more unit is done."""
        self.num_done += 1

    def say(self, line: str) -> None:
        """Show a line above the display; it stays when the display goes."""
        self.console.print(Text(line))

    def write(self, metrics: Metrics) -> None:
        """Take an epoch's numbers."""
        self.before = {**self.before, **self.metrics}
        self.metrics = {**self.metrics, **metrics}

    def write_timings(self, timings: Metrics) -> None:
        """Take what the epoch's phases took."""
        self.timings = {**self.timings, **timings}

    def write_episodes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the returns of finished episodes."""
        for row in rows:
            found = self.returns.setdefault(row["dataset"], deque(maxlen=NUM_RETURNS))
            found.append(row["episode_return"])

    def close(self) -> None:
        """Do nothing: the display ends with its block."""

    def render(self) -> RenderableType:
        """Return what is to be seen now; one line where the terminal has become too small."""
        width, height = self.console.size
        if width < LEAST_COLUMNS or height < LEAST_ROWS:
            return Text(f"{self._position()}, {self._left()}"[: max(1, width - 1)])
        parts: list[RenderableType] = [self._bars()]
        if self.metrics:
            parts += [Text(), self._numbers()]
        if self.returns:
            parts += [Text(), self._returns()]
        title = Text(self.title, style="bold", overflow="ellipsis", no_wrap=True)
        return Panel(
            Group(*parts),
            title=title,
            subtitle=Text(str(self.folder), style="dim"),
            width=min(width - len(ECHO) - 1, MOST_COLUMNS),
        )

    def _position(self) -> str:
        phase = self.phase.replace("_", " ")
        return f"epoch {self.epoch}/{self.num_epochs}, {phase}" if self.num_epochs else phase

    def _left(self) -> str:
        done = self.epoch - self.first_epoch
        if done < 1:
            return "time left: after the first epoch"
        seconds = (time.monotonic() - self.began) / (done + self._share_of_epoch())
        left = seconds * (self.num_epochs - self.epoch + 1 - self._share_of_epoch())
        return f"{_duration(max(0.0, left))} left"

    def _share_of_epoch(self) -> float:
        """Return about how much of the present epoch is done, as its phases took their time in the last one."""
        seconds = [self.timings.get(f"seconds/{phase}", 0.0) for phase in PHASES]
        if not sum(seconds) or self.phase not in PHASES:
            return 0.0
        index = PHASES.index(self.phase)
        total = self.work[2] if self.work else None
        within = min(1.0, self.num_done / total) if total else 0.0
        return (sum(seconds[:index]) + within * seconds[index]) / sum(seconds)

    def _bars(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None):
            table.add_column(ratio=ratio, no_wrap=True)
        done = self.epoch - 1 + self._share_of_epoch() if self.epoch else 0.0
        bar = ProgressBar(total=max(1, self.num_epochs), completed=done)
        table.add_row(f"epoch {self.epoch}/{self.num_epochs}", bar, self._left())
        _, unit, total = self.work or ("", "", None)
        pulse = ProgressBar(total=total or 1, completed=self.num_done if total else 0)
        phase = Text(self.phase.replace("_", " "), style="bold cyan")
        table.add_row(phase, pulse, self._rate(unit, total))
        table.add_row("memory", Text(_memory(), style="dim"), _duration(time.monotonic() - self.began))
        return table

    def _rate(self, unit: str, total: int | None) -> str:
        if not unit:
            return ""
        seconds = time.monotonic() - self.work_began
        rate = f", {self.num_done / seconds:.3g}/s" if self.num_done and seconds > 0.2 else ""
        return f"{self.num_done}/{total or '?'} {unit}s{rate}"

    def _numbers(self) -> Table:
        """Return a table of the three parts: losses of training and of evaluation, with how they moved, and rates."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        for name, justify in (
            ("", "left"),
            ("train loss", "right"),
            ("test loss", "right"),
            ("gradient", "right"),
            ("updates/s", "right"),
            ("s/epoch", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for part in ("tokenizer", "world_model", "actor_critic"):
            if f"{part}/train/total" in self.metrics:
                table.add_row(
                    part.replace("_", " "),
                    self._moved(f"{part}/train/total"),
                    self._moved(f"{part}/eval/total"),
                    _number(self.metrics.get(f"{part}/train/gradient_norm")),
                    _number(self.timings.get(f"updates_per_s/{part}")),
                    _number(self.timings.get(f"seconds/{part}")),
                )
        steps = _number(self.timings.get("steps_per_s/collect"))
        table.add_row(
            "collect",
            f"{int(self.metrics.get('env_steps', 0)):,} steps",
            "",
            "",
            f"{steps} steps/s",
            _number(self.timings.get("seconds/collect")),
        )
        return table

    def _moved(self, name: str) -> Text:
        """Return a number, green where it fell since the epoch before and red where it rose."""
        now, then = self.metrics.get(name), self.before.get(name)
        if now is None or then is None or now == then:
            return Text(_number(now))
        return Text(f"{_number(now)} {'▼' if now < then else '▲'}", style="green" if now < then else "red")

    def _returns(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for dataset, values in self.returns.items():
            mean = sum(values) / len(values)
            text = f"mean {mean:.4g}, highest {max(values):.4g} of the last {len(values)}"
            table.add_row(dataset.replace("_dataset", ""), Text(_spark(values), style="cyan"), text)
        return table


def _spark(values: Sequence[float] | deque[float]) -> str:
    """Return a picture of numbers one character high."""
    least, most = min(values), max(values)
    span = most - least or 1.0
    return "".join(BARS[int((value - least) / span * (len(BARS) - 1))] for value in values)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _memory() -> str:
    """Return what this process holds now and held at most, in MB, and what it holds of a GPU."""
    rss = psutil.Process().memory_info().rss / 2**20
    peak = max(rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
    import torch

    cuda = f", GPU {torch.cuda.memory_allocated() / 2**20:,.0f} MB" if torch.cuda.is_available() else ""
    return f"{rss:,.0f} MB, at most {peak:,.0f} MB{cuda}"
