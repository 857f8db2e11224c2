"""Requests to stop: SIGTERM and SIGUSR1 (schedulers), SIGINT (Ctrl-C).

Work that can be continued holds them back with `deferred` and asks at its safe points with `check`. Elsewhere the first
one ends the command at once. A second one always does: what is on disk is whole.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_requests: list[signal.Signals] = []
_is_deferred = False


class Interrupted(KeyboardInterrupt):
    """A request to stop. Like Ctrl-C, it passes through every `except Exception`."""

    def __init__(self, request: signal.Signals, where: str = "; the same command starts this again") -> None:
        self.request, self.where = request, where
        super().__init__(f"interrupted ({request.name}){where}.")

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after a scheduler's signal."""
        return exit_code(self.request)


def exit_code(request: signal.Signals) -> int:
    """Return what the command exits with: 130 after Ctrl-C, 143 after a scheduler's signal."""
    return 130 if request == signal.SIGINT else 143


@contextmanager
def listening() -> Iterator[None]:
    """Turn requests to stop into Interrupted while the block runs; those that the caller ignores stay ignored.

    Only a process's main thread can do so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, _notice) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _requests.clear()


@contextmanager
def deferred() -> Iterator[None]:
    """Hold the first request back while the block runs: only `check` raises it."""
    global _is_deferred
    with listening():
        _is_deferred = True
        try:
            yield
        finally:
            _is_deferred = False


def check() -> None:
    """Raise Interrupted if a request to stop has come. Cheap: for safe points in loops."""
    if _requests:
        raise Interrupted(_requests[0])


def _notice(number: int, _frame: FrameType | None) -> None:
    request = signal.Signals(number)
    if _requests:
        os._exit(exit_code(request))
    _requests.append(request)
    if not _is_deferred:
        raise Interrupted(request)
