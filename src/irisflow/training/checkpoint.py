"""Checkpoints in generations: each a folder that appears whole or not at all; the steps of the replay buffer beside them.

    generation-000012/tensors.safetensors  state.json  manifest.json
    replay/000000000-000000200.<sha256>.safetensors

Files of steps are written once and shared by the generations that name them. docs/adr/0012-checkpoints.md tells why.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load, save
from torch import Tensor

from irisflow import faults
from irisflow.errors import DataError, DivergedError
from irisflow.progress import say
from irisflow.storage import (
    MANIFEST,
    json_bytes,
    set_aside,
    space_errors,
    sync_folder,
    write_atomically,
    write_through,
)

KIND = "checkpoint"
SCHEMA = 2
KEPT = 2
TENSORS, STATE, REPLAY = "tensors.safetensors", "state.json", "replay"
TENSOR = "$tensor"  # stands in the JSON where an array was
GENERATION = re.compile(r"generation-(\d{6,})(\.corrupt-.*)?")
OWN_NAMES = re.compile(rf"{GENERATION.pattern}|{REPLAY}|LOCK|\..*\.tmp")


class CheckpointDamageError(Exception):
    """A file is not what was written. `reason` is one word, for the name under which it is set aside."""

    def __init__(self, path: Path, reason: str, text: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} is damaged ({text})")


class Steps(Protocol):
    """Steps numbered in the order in which they came; those before `first_step` are gone."""

    @property
    def first_step(self) -> int:
        """Number of the oldest step."""

    @property
    def end_step(self) -> int:
        """Number of the step that will come next."""

    def steps(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """Return arrays by name, one row for each step from `begin` to before `end`."""


@dataclass(frozen=True)
class FileEntry:
    """What a file was when it was written."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Chunk(FileEntry):
    """A file of replay steps, from number `begin` to before `end`."""

    begin: int
    end: int
    name: str


@dataclass(frozen=True)
class Manifest:
    """What a generation says of itself. `about` is for people; `parent` is the generation before it."""

    schema: int
    kind: str
    generation: str
    parent: str | None
    digest: str
    context: dict[str, str | int]
    about: dict[str, Any]
    files: dict[str, FileEntry]
    chunks: list[Chunk]

    def to_bytes(self) -> bytes:
        """Return the manifest as a file: sealed, so that a changed one is known by its own text."""
        content = asdict(self)
        return json_bytes({**content, "seal": hashlib.sha256(json_bytes(content)).hexdigest()})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest in a generation's folder. Raises CheckpointDamageError unless it is whole, to the byte."""
        path = folder / MANIFEST
        data = _bytes(path)
        try:
            content = json.loads(data)
            del content["seal"]
            content["files"] = {name: FileEntry(**entry) for name, entry in content["files"].items()}
            content["chunks"] = [Chunk(**entry) for entry in content["chunks"]]
            manifest = cls(**content)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise CheckpointDamageError(path, "manifest", "it is no manifest of a checkpoint") from None
        if data != manifest.to_bytes():
            raise CheckpointDamageError(path, "manifest", "its seal differs")
        return manifest


@dataclass(frozen=True)
class Checkpoint:
    """A whole generation: nested state with tensors in place of arrays, and the files of its replay steps."""

    folder: Path
    state: dict[str, Any]
    chunks: list[Chunk] = field(default_factory=list)

    def steps(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield the first step's number and the arrays of each file. Raises DataError for a file that has changed."""
        for chunk in self.chunks:
            path = self.folder.parent / REPLAY / chunk.name
            try:
                yield chunk.begin, load_arrays(_checked(path, chunk))
            except CheckpointDamageError as damage:
                raise DataError(f"{damage}. Start the command again.") from None


class Checkpoints:
    """The generations of one run, newest last. One process at a time: the caller holds the lock.

    `digest` names the configuration and code; `context` says on what the numbers were computed.
    """

    def __init__(self, folder: Path, *, digest: str, context: Mapping[str, str | int]) -> None:
        self.folder, self.digest, self.context = folder, digest, dict(context)
        self.newest: Path | None = None
        self._chunks: list[Chunk] = []

    def load(self, check: Callable[[dict[str, Any]], None]) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None if none was ever written.

        A damaged one is set aside and the next older one is taken. `check` raises DataError for a state that does not
        fit. Raises DataError if all are damaged, or if they come from another configuration, device or version.
        """
        damages: list[str] = []
        for folder in reversed(self.generations()):
            try:
                checkpoint = self._verified(folder, check)
            except CheckpointDamageError as damage:
                damages.append(str(damage))
                self._set_aside(folder, damage)
                continue
            self.newest, self._chunks = folder, checkpoint.chunks
            return checkpoint
        self._refuse_what_is_left(damages)
        return None

    def save(self, state: dict[str, Any], *, about: Mapping[str, Any], steps: Steps | None = None) -> Path:
        """Write the next generation and return its folder; a kill at any instant leaves this one or the one before.

        `state` is nested dicts and lists of arrays, tensors and JSON-able values. Raises DivergedError for numbers that
        are not finite, ResourceError where there is no space: then the older ones are as they were.
        """
        tensors: dict[str, Tensor] = {}
        # Keys keep their order: a resumed run writes its metrics in the order of one that was not stopped.
        rest = json.dumps(pack(state, tensors), allow_nan=False).encode()
        if (name := first_not_finite(tensors)) is not None:
            raise DivergedError(f"{name.removeprefix('state.')} is no longer finite; it was not saved.")
        files = {TENSORS: save(tensors), STATE: rest}
        target = self.folder / f"generation-{self._next_number():06d}"
        with space_errors(target, sum(len(data) for data in files.values())):
            self._sweep()
            _make_folder(self.folder / REPLAY)
            chunks = self._with_new(steps)
            self._write(target, files, self._manifest(target, files, chunks, about))
            self.newest, self._chunks = target, chunks
            self._prune()
        return target

    def generations(self) -> list[Path]:
        """Return the folders of the generations that were not set aside, oldest first."""
        return [self.folder / name for name, aside in self._numbered() if not aside]

    def _numbered(self) -> list[tuple[str, str | None]]:
        """Return each generation's name, oldest first, and for those set aside why."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        matches = [match for name in names if (match := GENERATION.fullmatch(name))]
        return [(match[0], match[2]) for match in sorted(matches, key=lambda match: int(match[1]))]

    def _next_number(self) -> int:
        numbers = [int(name[len("generation-") :].split(".")[0]) for name, _ in self._numbered()]
        return max(numbers, default=0) + 1

    def _verified(self, folder: Path, check: Callable[[dict[str, Any]], None]) -> Checkpoint:
        """Return a generation whose every byte is what its manifest says, and whose state fits."""
        manifest = self._read_manifest(folder)
        self._check_context(folder, manifest)
        names = {path.name for path in folder.iterdir()} - {MANIFEST}
        if extra := sorted(names - manifest.files.keys()):
            raise CheckpointDamageError(folder / extra[0], "extra", f"{MANIFEST} does not know it")
        data = {name: _checked(folder / name, entry) for name, entry in manifest.files.items()}
        for chunk in manifest.chunks:
            self._check_chunk(chunk)
        state = _parsed(folder, data)
        try:
            check(state)
        except DataError as error:
            raise CheckpointDamageError(folder / TENSORS, "unfit", str(error).rstrip(".")) from None
        return Checkpoint(folder, state, manifest.chunks)

    def _read_manifest(self, folder: Path) -> Manifest:
        manifest = Manifest.read(folder)
        if (manifest.kind, manifest.schema) != (KIND, SCHEMA):
            raise DataError(
                f"{folder} is a {manifest.kind} of schema {manifest.schema}; this version of irisflow reads a {KIND} of"
                f" schema {SCHEMA}. Go on with the version that wrote it, or delete {self.folder} to start anew."
            )
        if manifest.generation != folder.name:
            raise CheckpointDamageError(folder / MANIFEST, "swapped", f"it is that of {manifest.generation}")
        return manifest

    def _check_context(self, folder: Path, manifest: Manifest) -> None:
        """Raise DataError naming every difference between what wrote the checkpoint and what would go on."""
        then = {"digest": manifest.digest, **manifest.context}
        now = {"digest": self.digest, **self.context}
        differences = [
            f"{key} {then.get(key)} (now {now.get(key)})"
            for key in {**then, **now}
            if then.get(key) != now.get(key)
        ]
        if differences:
            raise DataError(
                f"checkpoint {folder} cannot be continued to the same bytes: it was made with {', '.join(differences)}."
                f" Go on with what it was made with, or delete {self.folder} to start anew."
            )

    def _check_chunk(self, chunk: Chunk) -> None:
        """Raise CheckpointDamageError if a file of steps is not what it was; it is set aside as well."""
        path = self.folder / REPLAY / chunk.name
        try:
            _checked(path, chunk)
        except CheckpointDamageError as damage:
            if path.exists():
                set_aside(path, damage.reason)
            raise

    def _set_aside(self, folder: Path, damage: CheckpointDamageError) -> None:
        aside = set_aside(folder, damage.reason)
        say(f"{damage}: {folder.name} is set aside as {aside.name}, the one before it is tried")

    def _refuse_what_is_left(self, damages: list[str]) -> None:
        """Raise DataError if the folder holds anything from which no training can go on."""
        present = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        strange = [name for name in present if not OWN_NAMES.fullmatch(name)]
        aside = [name for name, _ in self._numbered()]
        if damages or aside or strange:
            found = damages[0] if damages else ", ".join([*strange, *aside])
            raise DataError(
                f"{self.folder} holds no whole checkpoint: {found}. To start this run anew, delete {self.folder}."
            )

    def _with_new(self, steps: Steps | None) -> list[Chunk]:
        """Write the steps that no file holds yet; return the files that hold all that are still there."""
        if steps is None:
            return []
        chunks = [chunk for chunk in self._chunks if chunk.end > steps.first_step]
        begin = max(chunks[-1].end if chunks else 0, steps.first_step)
        if begin < steps.end_step:
            chunks.append(self._write_chunk(steps, begin, steps.end_step))
        return chunks

    def _write_chunk(self, steps: Steps, begin: int, end: int) -> Chunk:
        data = save_arrays(steps.steps(begin, end))
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{begin:09d}-{end:09d}.{sha256[:16]}.safetensors"
        write_atomically(self.folder / REPLAY / name, data)
        faults.point("checkpoint.chunk")
        return Chunk(num_bytes=len(data), sha256=sha256, begin=begin, end=end, name=name)

    def _manifest(
        self, target: Path, files: Mapping[str, bytes], chunks: list[Chunk], about: Mapping[str, Any]
    ) -> Manifest:
        listing = {
            name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
        }
        parent = self.newest.name if self.newest else None
        return Manifest(
            SCHEMA, KIND, target.name, parent, self.digest, self.context, dict(about), listing, chunks
        )

    def _write(self, target: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
        """Write a generation beside its name, have all of it on the disk, then rename it."""
        temporary = self.folder / f".{target.name}.tmp"
        try:
            temporary.mkdir()
            for name, data in files.items():
                write_through(temporary / name, data)
            faults.point("checkpoint.manifest")
            write_through(temporary / MANIFEST, manifest.to_bytes())
            sync_folder(temporary)
            faults.point("checkpoint.rename")
            temporary.rename(target)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        faults.point("checkpoint.renamed")
        sync_folder(self.folder)

    def _prune(self) -> None:
        """Remove the generations beyond the newest two, and files of steps that none of those two names."""
        faults.point("checkpoint.prune")
        for folder in self.generations()[:-KEPT]:
            doomed = folder.with_name(f".{folder.name}.tmp")
            folder.rename(doomed)
            faults.point("checkpoint.pruning")
            shutil.rmtree(doomed, ignore_errors=True)
        try:
            named = {chunk.name for folder in self.generations() for chunk in Manifest.read(folder).chunks}
        except CheckpointDamageError:  # the older one: the next start sets it aside
            return
        for path in (self.folder / REPLAY).iterdir():
            if path.suffix == ".safetensors" and path.name not in named:
                faults.point("checkpoint.prune_chunk")
                path.unlink()

    def _sweep(self) -> None:
        """Remove what a killed writer left half done."""
        for folder in (self.folder, self.folder / REPLAY):
            for path in folder.glob(".*.tmp"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a number that is not finite, or None."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's moments by parameter index; its hyperparameters come from the configuration."""
    return {str(index): state for index, state in optimizer.state_dict()["state"].items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what `optimizer_state` returned."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {int(i): s for i, s in state.items()}, "param_groups": groups})


def pack(state: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """Return nested state as JSON-able data; its arrays and tensors go into `tensors` under their path."""
    if isinstance(state, dict):
        return {key: pack(value, tensors, f"{path}.{key}") for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [pack(value, tensors, f"{path}.{index}") for index, value in enumerate(state)]
    if isinstance(state, np.ndarray):
        state = torch.from_numpy(np.array(state, order="C"))
    if isinstance(state, Tensor):
        tensors[path] = state.detach().cpu().contiguous()
        return {TENSOR: path}
    return state


def unpack(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the nested state that `pack` took apart; every array comes back as a tensor."""
    if isinstance(data, dict):
        if TENSOR in data:
            return tensors[data[TENSOR]]
        return {key: unpack(value, tensors) for key, value in data.items()}
    return [unpack(value, tensors) for value in data] if isinstance(data, list) else data


def as_arrays(state: Any) -> Any:
    """Return nested state with NumPy arrays in place of tensors."""
    if isinstance(state, dict):
        return {key: as_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [as_arrays(value) for value in state]
    return state.numpy() if isinstance(state, Tensor) else state


def _parsed(folder: Path, data: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the state of a generation whose bytes are right."""
    try:
        tensors = load(data[TENSORS])
        if (name := first_not_finite(tensors)) is not None:
            raise CheckpointDamageError(folder / TENSORS, "not-finite", f"{name} is not finite")
        state = unpack(json.loads(data[STATE]), tensors)
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointDamageError(
            folder / TENSORS, "unreadable", f"{type(error).__name__}: {error}"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointDamageError(folder / STATE, "unreadable", "it is no JSON object")
    return state


def _checked(path: Path, entry: FileEntry) -> bytes:
    """Return a file's bytes, which are those that were written, else raise CheckpointDamageError."""
    _check_size(path, entry)
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CheckpointDamageError(path, "sha256", f"its sha256 differs from {MANIFEST}")
    return data


def _check_size(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise CheckpointDamageError(path, "missing", "it is missing")
    if (found := path.stat().st_size) != entry.num_bytes:
        raise CheckpointDamageError(path, "size", f"{found} bytes, {entry.num_bytes} were written")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise CheckpointDamageError(path, "missing", "it is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Mend that and start again.") from None


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents so that a power cut does not take them away."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
