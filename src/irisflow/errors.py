"""The errors that a user can cause or meet: each is one line and an exit code, never a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class IrisflowError(Exception):
    """An error whose text tells what is wrong, where, and how to mend it."""

    exit_code = 1


class ConfigError(IrisflowError):
    """A name, key or value that the user gave is not allowed."""

    exit_code = 2


class DataError(IrisflowError):
    """A file is missing, damaged, or not the one that was asked for."""

    exit_code = 3


class DamageError(DataError):
    """A published file or folder is not what was published there. The command that meets it sets it aside.

    `reason` is the word it is set aside under, `sha256` what its bytes should have, where that is known.
    """

    def __init__(self, finding: str, path: Path, reason: str, *, sha256: str | None = None) -> None:
        super().__init__(f"{finding} Restore it with `dvc checkout`, or delete it to make it again.")
        self.finding, self.path, self.reason, self.sha256 = finding, path, reason, sha256


class ResourceError(IrisflowError):
    """Space, memory or a device is lacking."""

    exit_code = 4


class EnvironmentFailure(IrisflowError):  # noqa: N818 - EnvironmentError is a builtin
    """A game or one of its processes failed."""

    exit_code = 5


class DivergedError(IrisflowError):
    """A loss, gradient or weight is no longer a finite number."""

    exit_code = 6


class LockedError(IrisflowError):
    """Another process writes the same run."""

    exit_code = 7


class SlowdownError(IrisflowError):
    """A fast way is no longer as much faster than the plain one as it must be."""

    exit_code = 8


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; nearest: a, b` for the known names that resemble `name`, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(by_lower[match] for match in close)}" if close else ""
