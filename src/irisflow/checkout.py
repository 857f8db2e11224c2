"""The checkout that makes a result: commit, branch, and what is not committed, which is kept to rebuild it."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from irisflow.params import ROOT
from irisflow.progress import say
from irisflow.storage import sha256_of, write_atomically

CODE = (
    "Snakefile",
    "params",
    "src",
    "workflow",
)  # where a file that git does not track yet decides results, too
PLAIN = ("--binary", "--no-ext-diff", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
LARGEST = 10 * 2**20
KEYS = ("commit", "branch", "dirty", "diff_sha256", "diff_bytes", "diff_file")


def git_state(keep_in: Path | None = None) -> dict[str, Any]:
    """Return commit, branch, whether anything differs from the commit, and the sha256 and size of how; None without git.

    What differs is what `git apply` makes of the commit: changes of tracked files (`dvc.lock` aside) and new files of the
    code. It is kept in a folder as SHA256.diff, if it has at most 10 MB; `diff_file` says where, None that it is not.
    """
    try:
        commit, branch = _git("rev-parse", "HEAD"), _git("rev-parse", "--abbrev-ref", "HEAD")
        changes = _changes()
    except (OSError, subprocess.CalledProcessError):
        return dict.fromkeys(KEYS)
    found = (hashlib.sha256(changes).hexdigest(), len(changes)) if changes else (None, None)
    kept = _kept(changes, keep_in) if changes and keep_in is not None else None
    name, text = commit.decode().strip(), branch.decode(errors="replace").strip()
    return dict(zip(KEYS, (name, text, bool(changes), *found, kept), strict=True))


def _changes() -> bytes:
    tracked = _git("diff", "HEAD", *PLAIN, "--", ".", ":!dvc.lock")
    listed = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE)
    names = [name for name in listed.decode(errors="surrogateescape").split("\0") if name and name[-1] != "/"]
    added = [_git("diff", "--no-index", *PLAIN, "--", "/dev/null", name, allowed=(0, 1)) for name in names]
    return b"".join((tracked, *added))


def _kept(changes: bytes, folder: Path) -> str | None:
    """Return where changes lie that were written unless they were there; None where they are too large."""
    sha256 = hashlib.sha256(changes).hexdigest()
    if len(changes) > LARGEST:
        say(
            f"the uncommitted changes have {len(changes) / 2**20:.0f} MB and are not kept (at most {LARGEST >> 20} MB):"
            " nobody can rebuild this result. Commit them, or have git ignore what is no code"
        )
        return None
    path = folder / f"{sha256}.diff"
    if not path.is_file() or sha256_of(path) != sha256:
        write_atomically(path, changes)
    return path.as_posix()


def _git(*arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes:
    found = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True)
    if found.returncode not in allowed:
        found.check_returncode()
    return found.stdout
