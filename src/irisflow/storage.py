"""Artefacts on disk: written whole or not at all, with a manifest of sha256 that is checked before a byte is parsed."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irisflow import faults
from irisflow.errors import DamageError, DataError, ResourceError

MANIFEST = "manifest.json"
OWN = "own_sha256"
SCHEMA = 2


@dataclass(frozen=True)
class Artefact:
    """A folder whose files are what its manifest says. `kind` names what it holds, `about` describes the run."""

    folder: Path
    kind: str
    digest: str
    about: dict[str, Any]
    sha256: dict[str, str]

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises DataError if they are not those of the manifest."""
        path = self.folder / name
        data = _read(path)
        check_sha256(path, expected=self.sha256.get(name), found=hashlib.sha256(data).hexdigest())
        return data


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error.strerror}.", path, "unreadable") from None


def check_sha256(path: Path, *, expected: str | None, found: str) -> None:
    """Raise DamageError naming both hashes unless they are the same."""
    if expected is None:
        manifest = path.parent / MANIFEST
        raise DamageError(f"{manifest} does not vouch for {path.name}.", manifest, "incomplete")
    if found != expected:
        finding = f"{path} is damaged: its sha256 is {found[:12]}, {MANIFEST} has {str(expected)[:12]}."
        raise DamageError(finding, path, "sha256", sha256=expected)


def json_bytes(data: Any) -> bytes:
    """Return JSON that is the same for equal data: sorted keys, no NaN, a newline at the end."""
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def compact_json(data: Mapping[str, Any]) -> bytes:
    """Return the same with one line for each key of `data`: for numbers by the hundred thousand."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(data[key], sort_keys=True, allow_nan=False)}" for key in sorted(data)
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with space_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_through(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def publish(
    folder: Path, files: Mapping[str, bytes], *, kind: str, digest: str, about: Mapping[str, Any]
) -> None:
    """Write an artefact's files, the manifest last: without it there is no artefact.

    Nothing is replaced before all of it is on disk, so that a full disk leaves the old artefact whole.
    """
    listing = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    contents = {**files, MANIFEST: manifest_bytes(kind, digest, about, listing)}
    temporaries = {name: folder / f".{name}.{os.getpid()}.tmp" for name in contents}
    with space_errors(folder, sum(len(data) for data in contents.values())):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, data in contents.items():
                write_through(temporaries[name], data)
            (folder / MANIFEST).unlink(missing_ok=True)
            faults.point("publish.rename")
            for name, temporary in temporaries.items():
                temporary.replace(folder / name)
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
        sync_folder(folder)


def open_artefact(folder: Path, *, kind: str) -> Artefact:
    """Return the artefact in a folder. Raises DataError if there is none, or it is of another kind or schema."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{kind} {folder} does not exist (no {MANIFEST}). "
            f" Make it with `snakemake {path}`, or restore it with `dvc checkout`."
        )
    found = read_manifest(path)
    if found.kind != kind:
        raise DataError(f"{path} describes a {found.kind}; expected a {kind}. {_mend(folder)}")
    return found


def manifest_bytes(kind: str, digest: str, about: Mapping[str, Any], sha256: Mapping[str, str]) -> bytes:
    """Return a manifest, which also vouches for itself: `own_sha256` is that of all its other lines."""
    rest = {"schema": SCHEMA, "kind": kind, "digest": digest, "about": dict(about), "sha256": dict(sha256)}
    return json_bytes({**rest, OWN: hashlib.sha256(json_bytes(rest)).hexdigest()})


def read_manifest(path: Path) -> Artefact:
    """Return the artefact that a manifest describes. Raises DamageError unless the manifest itself is whole."""
    data = _read(path)
    try:
        manifest = json.loads(data)
        expected, schema = str(manifest[OWN]), manifest["schema"]
        kind, digest = str(manifest["kind"]), str(manifest["digest"])
        listing = {str(name): str(sha256) for name, sha256 in manifest["sha256"].items()}
        found = Artefact(path.parent, kind, digest, dict(manifest["about"]), listing)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamageError(f"{path} is damaged: it is no manifest.", path, "unreadable") from None
    line = f' "{OWN}": "{expected}",\n'.encode(errors="replace")
    own = hashlib.sha256(data.replace(line, b"", 1)).hexdigest()
    if own != expected:
        finding = f"{path} is damaged: the sha256 of its lines is {own[:12]}, it says {expected[:12]}."
        raise DamageError(finding, path, "sha256")
    if schema != SCHEMA:
        raise DataError(f"{path} has schema {schema}; expected {SCHEMA}. {_mend(path.parent)}")
    return found


def verify(path: Path) -> None:
    """Raise DataError unless the manifest beside a file vouches for its bytes."""
    manifest = read_manifest(path.parent / MANIFEST)
    check_sha256(path, expected=manifest.sha256.get(path.name), found=sha256_of(path))


def set_aside(path: Path, reason: str) -> Path:
    """Rename what is damaged to a name that nothing reads, and return it; nothing is ever deleted.

    `reason` is one word or a few joined by hyphens; an earlier one that was set aside keeps its name.
    """
    base = path.with_name(f"{path.name}.corrupt-{reason}")
    aside, number = base, 1
    while aside.exists():
        number += 1
        aside = base.with_name(f"{base.name}-{number}")
    path.rename(aside)
    sync_folder(path.parent)
    return aside


@contextmanager
def space_errors(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn the operating system's refusals to write into one-line ResourceErrors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            needs = (
                "" if num_bytes is None else f" (needs {num_bytes / 1e6:.1f} MB, {_free_mb(path)} MB free)"
            )
            raise ResourceError(
                f"no space left writing {path}{needs}. Free space and run the same command again."
            ) from None
        raise ResourceError(f"cannot write {path}: {error.strerror}.") from None


def _free_mb(path: Path) -> str:
    there = next(parent for parent in (path, *path.parents, Path()) if parent.exists())
    return f"{shutil.disk_usage(there).free / 1e6:.1f}"


def write_through(path: Path, data: bytes) -> None:
    """Write a new file, or over an old one, and return when its bytes are on the disk."""
    faults.point("write.begin")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        half = len(data) // 2
        _write_all(descriptor, memoryview(data)[:half])
        faults.point("write.half")
        _write_all(descriptor, memoryview(data)[half:])
        faults.point("write.unsynced")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
    faults.point("sync_folder")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error.strerror}.", path, "unreadable") from None


def _mend(folder: Path) -> str:
    return f"Restore it with `dvc checkout`, or delete {folder} to make it again."
