"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


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
    is_terminal = sys.stderr.isatty()
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


def say(message: str) -> None:
    """Print one plain line with the time of day on stderr, without breaking a bar."""
    with suppress(OSError, ValueError):  # whoever read it has gone
        tqdm.write(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr)
