"""One run, one writer: a lock held by the process itself, which a dead process does not hold."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from irisflow.errors import LockedError


@contextmanager
def single_writer(folder: Path, *, is_temporary: bool = False) -> Iterator[None]:
    """Hold the folder's `LOCK` while the block runs. Raises LockedError if another process holds it.

    A temporary folder is removed when the block succeeds, and also when it fails before it wrote anything. POSIX record
    locks end with the process and are not inherited by forked workers.
    """
    is_first = not folder.parent.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "LOCK").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise LockedError(
                f"{folder} is in use by process {file.read().strip() or '?'}. Wait for it to end, or stop it."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
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
