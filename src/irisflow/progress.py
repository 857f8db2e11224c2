"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere, or a display that took over."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


class Display(Protocol):
    """Shows all progress of this process in one place."""

    def announce(self, phase: str, epoch: int | None, num_epochs: int | None) -> None:
        """Take which phase of training begins."""

    def begin(self, what: str, unit: str, total: int | None) -> None:
        """Take that work of so many units begins."""

    def advance(self) -> None:
        """Take that one more unit is done: called in hot loops."""

    def say(self, line: str) -> None:
        """Show a line that stays."""


_display: Display | None = None


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Let a display show what this process reports while the block runs."""
    global _display
    previous, _display = _display, display
    try:
        yield
    finally:
        _display = previous


def announce(phase: str, *, epoch: int | None = None, num_epochs: int | None = None) -> None:
    """Tell the display, if there is one, which phase of training begins."""
    if _display is not None:
        _display.announce(phase, epoch, num_epochs)


def is_live(stream: TextIO) -> bool:
    """Return whether a stream is a terminal on which a line can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


class Lenient:
    """A stream whose reader may go away, as `tee` does at Ctrl-C: the work goes on without it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write, if somebody reads."""
        with suppress(OSError, ValueError):
            self.stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        with suppress(OSError, ValueError):
            self.stream.flush()


class PlainLines(Lenient):
    """A stream for tqdm that keeps one whole line out of every ten seconds, for logs."""

    def write(self, text: str) -> None:
        """Write one progress state as a line of its own."""
        if stripped := text.strip("\r\n \x1b[A"):
            super().write(stripped + "\n")


def progress(items: Iterable[Item], *, what: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items while reporting on stderr how far the work is, its rate and the time left."""
    if _display is not None:
        yield from _displayed(_display, items, what, unit, total)
        return
    is_terminal = is_live(sys.stderr)
    with tqdm(
        items,
        desc=what,
        unit=unit,
        total=total,
        leave=False,
        delay=0 if is_terminal else SECONDS_BETWEEN_LINES,
        dynamic_ncols=is_terminal,
        ncols=None if is_terminal else 100,
        ascii=not is_terminal,
        mininterval=0.2 if is_terminal else SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        file=sys.stderr if is_terminal else PlainLines(sys.stderr),
    ) as bar:
        yield from bar


def _displayed(
    display: Display, items: Iterable[Item], what: str, unit: str, total: int | None
) -> Iterator[Item]:
    if total is None and isinstance(items, Sized):
        total = len(items)
    display.begin(what, unit, total)
    for item in items:
        yield item
        display.advance()


def say(message: str) -> None:
    """Print one plain line with the time of day on stderr, without breaking a bar."""
    line = f"[{time.strftime('%H:%M:%S')}] {message}"
    if _display is not None:
        _display.say(line)
        return
    with suppress(OSError, ValueError):  # whoever read it has gone
        tqdm.write(line, file=sys.stderr)
