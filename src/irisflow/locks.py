"""One run, one writer: a lock held by the process itself, which a dead process does not hold."""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

import psutil

from irisflow.errors import LockedError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_held: set[Path] = set()


@contextmanager
def single_writer(folder: Path, *, is_temporary: bool = False) -> Iterator[None]:
    """Hold the folder's `LOCK` while the block runs. Raises LockedError if another process holds it.

    A temporary folder is removed when the block succeeds, and also when it fails before it wrote anything. POSIX record
    locks end with the process, also with one that its parent has not yet buried, and no other process inherits them.
    """
    is_first = not folder.parent.exists()
    lock = (folder / "LOCK").absolute()
    with _locked(lock):
        try:
            yield
        except BaseException:
            if is_temporary and [path.name for path in folder.iterdir()] == ["LOCK"]:
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # another stage came meanwhile
                    if is_first:
                        folder.parent.rmdir()
            raise
        if is_temporary:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock file. A process that opened and closed it once more would lose it, so it may not."""
    if lock in _held:
        raise LockedError(f"{lock.parent} is in use by this process itself.")
    with _acquired(lock) as file:
        _held.add(lock)
        file.seek(0)
        file.truncate()
        file.write(holder())
        file.flush()
        try:
            yield
        finally:
            _held.discard(lock)


def _acquired(lock: Path) -> TextIOWrapper:
    """Return the open lock file, locked. Raises LockedError if another process has it."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("a+")
        except FileNotFoundError:  # removed between the two lines, with a run that has just ended
            continue
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            by = file.read().strip() or "another process"
            file.close()
            raise LockedError(
                f"{lock.parent} is in use by {by}. Wait for it to end, or stop it (kill with its number)."
            ) from None
        if _is_same(file, lock):
            return file
        file.close()  # locked, but meanwhile removed: nobody else would see it


def _is_same(file: TextIOWrapper, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def holder() -> str:
    """Return one line that says which process this is: number, host, start, and the boot that the number belongs to."""
    started = datetime.fromtimestamp(psutil.Process().create_time()).isoformat(" ", "seconds")
    boot = BOOT_ID.read_text().strip() if BOOT_ID.is_file() else "unknown"
    return f"process {os.getpid()} on {socket.gethostname()} (started {started}, boot {boot})\n"
