"""How often work that can be continued began, went on from a checkpoint, was interrupted, and died.

A line for each of these in a small file beside the checkpoints. It decides no number of the work. What is counted, and what
is not, stands in docs/architecture.md.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from irisflow.errors import IrisflowError, ResourceError
from irisflow.provenance import Cost
from irisflow.storage import space_errors, sync_folder

NAME = "starts.log"
START, RESUMED, INTERRUPTED, FINISHED = "start", "resumed", "interrupted", "finished"


class StartLog:
    """A file of one word a line, which only grows. One process at a time: the caller holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def note(self, word: str) -> None:
        """Append a word and return when it is on the disk."""
        with space_errors(self.path):
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                # A power cut may have left half a word: it keeps a line of its own, which counts for nothing.
                size = os.fstat(descriptor).st_size
                is_whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
                os.write(descriptor, f"{'' if is_whole else os.linesep}{word}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                sync_folder(self.path.parent)

    def note_resumed(self) -> None:
        """Note that the last start goes on from a checkpoint."""
        self.note(RESUMED)

    def counts(self) -> dict[str, int]:
        """Return the counts so far, of which the last start is still at work.

        A start has died if the next one found that it had neither finished nor been interrupted.
        """
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        words = Counter(text.splitlines())
        ended = words[FINISHED] + words[INTERRUPTED]
        return {
            "num_starts": words[START],
            "num_resumes": words[RESUMED],
            "num_interrupted": words[INTERRUPTED],
            "num_died": max(0, words[START] - ended - 1),
        }

    def is_all_there_is(self) -> bool:
        """Return whether this is the first start and nothing but this file and the lock has been written."""
        others = {path.name for path in self.path.parent.iterdir()} - {NAME, "LOCK"}
        return not others and self.counts()["num_starts"] <= 1


@contextmanager
def counted(cost: Cost, folder: Path) -> Iterator[None]:
    """Count a start of the work in a folder, and how the block ends; the work's `cost` has the counts.

    A first start that is refused, or interrupted, before anything was written leaves no trace.
    """
    log = cost.starts = StartLog(folder)
    try:
        log.note(START)
        yield
    except (IrisflowError, KeyboardInterrupt) as stop:
        if log.is_all_there_is():
            log.path.unlink(missing_ok=True)
        elif isinstance(stop, KeyboardInterrupt):
            with suppress(ResourceError):  # a full disk must not hide where the work was saved
                log.note(INTERRUPTED)
        raise
    log.note(FINISHED)
