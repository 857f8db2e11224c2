"""What happens to damage that a command met: it is set aside, and one line says how to get a whole one."""

import json
from contextlib import suppress
from pathlib import Path

from irisflow import paths
from irisflow.errors import DamageError, DataError
from irisflow.storage import MANIFEST, read_manifest, set_aside
from irisflow.versions import Versions, read_versions


def set_right(error: DamageError) -> str:
    """Set aside what is damaged and return the whole story in one line: what was found, where it went, how to mend it."""
    fate = _put_aside(error) if error.path.exists() else _earlier(error.path)
    try:
        versions = read_versions()
    except DataError:
        versions = None
    return f"{error.finding} {fate}{way_out(error.path, versions)}"


def way_out(path: Path, versions: Versions | None) -> str:
    """Return how to get a whole file or folder in place of a damaged one: DVC's copy if it is whole, else anew."""
    folder = path if path.is_dir() or not path.suffix else path.parent
    if versions is not None and _is_kept(versions, folder):
        return f"`dvc checkout {folder}` restores it."
    if folder.is_relative_to(paths.IMPORTED):
        return "Import it again with `irisflow import-dataset`, or restore it with `dvc checkout`."
    return "The same snakemake command makes it anew."


def _put_aside(error: DamageError) -> str:
    if not _is_still_damaged(error):
        return ""
    try:
        return f"It was set aside as {set_aside(error.path, error.reason).name}. "
    except OSError as refusal:
        return f"It could not be set aside ({refusal.strerror}); move it away. "


def _is_still_damaged(error: DamageError) -> bool:
    """Return whether a second look finds the same: not if a file was being replaced at the first."""
    if error.reason != "sha256" or error.path.name == MANIFEST:
        return True
    try:
        read_manifest(error.path.parent / MANIFEST).read(error.path.name)
    except DataError:
        return True
    return False


def _earlier(path: Path) -> str:
    """Return a remark on those that were set aside before, for a file that is missing."""
    earlier = sorted(path.parent.glob(f"{path.name}.corrupt-*"))
    return f"Set aside for damage: {', '.join(found.name for found in earlier)}. " if earlier else ""


def _is_kept(versions: Versions, folder: Path) -> bool:
    """Return whether DVC's cache has a whole version of an artefact, made from the same configuration."""
    md5 = versions.file(folder / MANIFEST)
    data = None if md5 is None else versions.whole_copy(md5)
    if data is None:
        return False
    kept = json.loads(data)
    with suppress(DataError):  # there may be no manifest to differ from
        if read_manifest(folder / MANIFEST).digest != kept.get("digest"):
            return False
    copies = [versions.file(folder / name) for name in kept.get("sha256", ())]
    return all(copy is not None and versions.whole_copy(copy) is not None for copy in copies)
