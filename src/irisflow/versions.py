"""What DVC keeps: the files that `dvc.lock` names and their copies in DVC's cache. Nothing here writes."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from irisflow.errors import DataError

LOCK = Path("dvc.lock")
FOLDER = ".dir"  # ends the md5 of a folder's listing


@dataclass(frozen=True)
class Versions:
    """The md5 of every output in `dvc.lock`, that of a folder's listing for a folder; and where copies of them lie."""

    outputs: dict[Path, str]
    cache: Path
    listings: dict[Path, dict[Path, str] | None] = field(default_factory=dict)  # what was read so far

    def copy_of(self, md5: str) -> Path:
        """Return where the cache keeps, or would keep, what has this md5."""
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]

    def files(self, output: Path) -> dict[Path, str] | None:
        """Return the md5 of each file of an output, or None if the cache has no whole listing of a folder."""
        if output not in self.listings:
            self.listings[output] = self._listed(output)
        return self.listings[output]

    def _listed(self, output: Path) -> dict[Path, str] | None:
        md5 = self.outputs[output]
        if not md5.endswith(FOLDER):
            return {output: md5}
        data = self.whole_copy(md5)
        if data is None:
            return None
        return {output / entry["relpath"]: str(entry["md5"]) for entry in json.loads(data)}

    def file(self, path: Path) -> str | None:
        """Return the md5 that `dvc.lock` has for a file, or None."""
        for output in (path, *path.parents):
            if output in self.outputs:
                return (self.files(output) or {}).get(path)
        return None

    def whole_copy(self, md5: str) -> bytes | None:
        """Return the bytes of the cache's copy, or None if there is none that has this md5."""
        try:
            data = self.copy_of(md5).read_bytes()
        except OSError:
            return None
        return data if hashlib.md5(data).hexdigest() == md5.removesuffix(FOLDER) else None


def read_versions() -> Versions | None:
    """Return what `dvc.lock` names, or None where there is none. Raises DataError if it cannot be read."""
    if not LOCK.is_file():
        return None
    try:
        stages = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"].values()
        outputs = {Path(out["path"]): str(out["md5"]) for stage in stages for out in stage.get("outs", ())}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise DataError(f"{LOCK} is damaged: it lists no outputs.") from None
    return Versions(outputs, _cache_of(Path.cwd()))


@cache
def _cache_of(folder: Path) -> Path:
    """Return where DVC keeps its copies; `folder` is the working directory."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Path(result.stdout.strip() or ".dvc/cache")
