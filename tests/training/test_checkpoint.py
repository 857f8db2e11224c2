"""Checkpoints as files: damage is found and set aside, a power cut leaves the old one or the new one."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from irisflow import storage
from irisflow.errors import DataError, DivergedError, ResourceError
from irisflow.storage import json_bytes
from irisflow.training import checkpoint
from irisflow.training.checkpoint import Checkpoint, Checkpoints, Manifest

CONTEXT = {"device": "cpu", "num_threads": 1, "torch": "2.0"}
MEND = "To start this run anew, delete"


@dataclass
class Counting:
    """Steps that are numbered by their content, of which the oldest go."""

    first_step: int = 0
    end_step: int = 0

    def steps(self, begin: int, end: int) -> dict[str, np.ndarray]:
        return {"number": np.arange(begin, end)}


def checkpoints(folder: Path, **changes: Any) -> Checkpoints:
    return Checkpoints(folder, **{"digest": "d", "context": CONTEXT, **changes})


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((4, 4), float(number)), "none": None}


def accept(_: dict[str, Any]) -> None:
    """Find every state good."""


def load(folder: Path, **changes: Any) -> Checkpoint | None:
    return checkpoints(folder, **changes).load(accept)


def numbers(found: Checkpoint) -> list[int]:
    """Return the steps of a checkpoint, as they would be put into the buffer."""
    return [int(number) for _, piece in found.steps() for number in piece["number"]]


def written(folder: Path, num: int = 3) -> Path:
    """Return the folder after `num` generations, each of ten more steps."""
    store, steps = checkpoints(folder), Counting()
    for number in range(1, num + 1):
        steps.end_step += 10
        store.save(state(number), about={"number": number}, steps=steps)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_with_all_its_steps(in_ram: Path) -> None:
    found = load(written(in_ram / "run"))
    assert found is not None and found.state["number"] == 3
    assert torch.equal(found.state["weights"], state(3)["weights"]) and found.state["none"] is None
    assert numbers(found) == list(range(30))


def test_the_newest_two_are_kept_and_steps_are_written_once(in_ram: Path) -> None:
    folder = written(in_ram / "run", 2)
    old = {path: path.stat().st_ino for path in (folder / "replay").iterdir()}
    store = checkpoints(folder)
    assert store.load(accept) is not None
    store.save(state(3), about={}, steps=Counting(0, 30))
    assert names(folder) == ["generation-000002", "generation-000003", "replay"]
    now = {path: path.stat().st_ino for path in (folder / "replay").iterdir()}
    assert len(now) == 3 and old.items() < now.items()
    assert Manifest.read(folder / "generation-000003").parent == "generation-000002"


def test_steps_that_the_buffer_dropped_go_when_no_kept_checkpoint_names_them(in_ram: Path) -> None:
    folder = in_ram / "run"
    store = checkpoints(folder)
    for begin, end in ((0, 10), (5, 20), (15, 30), (25, 40)):
        store.save(state(end), about={}, steps=Counting(begin, end))
        found = load(folder)
        assert found is not None and set(numbers(found)) >= set(range(begin, end))
    assert [int(name[:9]) for name in names(folder / "replay")] == [10, 20, 30]


def test_nothing_is_a_fresh_start_but_anything_else_is_not(in_ram: Path) -> None:
    assert load(in_ram / "absent") is None
    (in_ram / "run/replay").mkdir(parents=True)
    (in_ram / "run/.generation-000001.tmp").mkdir()
    assert load(in_ram / "run") is None, "killed while it wrote its first"
    (in_ram / "run/state.json").write_bytes(b"{}")
    with pytest.raises(DataError, match=r"state\.json.*" + MEND):
        load(in_ram / "run")


def every_file(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damages(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield ways of damaging a file, which start from what it is now."""
    data = path.read_bytes()
    size = len(data)
    for offset in range(0, size, max(1, size // 25)):
        flipped = data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :]
        yield f"flip {offset}", lambda flipped=flipped: path.write_bytes(flipped)
    for length in sorted({0, 1, size // 3, size - 1}):
        yield f"cut {length}", lambda length=length: path.write_bytes(data[:length])
    yield "zeros", lambda: path.write_bytes(bytes(size))
    yield "longer", lambda: path.write_bytes(data + b"\n")
    yield "deleted", path.unlink
    yield "a folder", lambda: (path.unlink(), path.mkdir())


def test_any_damage_to_any_file_is_found_and_the_one_before_is_used(
    in_ram: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = written(in_ram / "whole")
    newest_steps = Manifest.read(whole / "generation-000003").chunks[-1].name
    files = [*every_file(whole / "generation-000003"), whole / "replay" / newest_steps]
    tried = 0
    for file in files:
        for what, damage in damages(file):
            copy = in_ram / "copy"
            shutil.copytree(whole, copy)
            damage_in(copy, whole, file, damage)
            capsys.readouterr()
            found = load(copy)
            lines = capsys.readouterr().err.splitlines()
            assert found is not None and found.state["number"] == 2, (file.name, what)
            assert numbers(found) == list(range(20))
            assert len(lines) == 1 and file.name in lines[0] and "set aside" in lines[0], lines
            assert sum(".corrupt-" in name for name in names(copy)) == 1
            store = checkpoints(copy)
            assert store.load(accept) is not None
            store.save(state(4), about={}, steps=Counting(0, 40))
            again = load(copy)
            assert again is not None and again.state["number"] == 4 and numbers(again) == list(range(40))
            shutil.rmtree(copy)
            tried += 1
    assert tried > 100


def damage_in(copy: Path, whole: Path, file: Path, damage: Callable[[], object]) -> None:
    """Do to the copy what `damage` does to the file in `whole`, which stays as it was."""
    kept = file.read_bytes()
    damage()
    target = copy / file.relative_to(whole)
    target.unlink()
    if file.is_dir():
        file.rmdir()
        target.mkdir()
    elif file.exists():
        target.write_bytes(file.read_bytes())
    file.write_bytes(kept)


def swap(first: Path, second: Path) -> None:
    middle = first.with_name("middle")
    first.rename(middle)
    second.rename(first)
    middle.rename(second)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: swap(f / "generation-000003/state.json", f / "generation-000003/tensors.safetensors"),
        lambda f: swap(f / "generation-000003/state.json", f / "generation-000002/state.json"),
        lambda f: swap(f / "generation-000003", f / "generation-000002"),
        lambda f: (f / "generation-000003/more").write_bytes(b""),
        lambda f: shutil.rmtree(f / "generation-000003") or (f / "generation-000003").mkdir(),
        lambda f: swap(*sorted((f / "replay").iterdir())[:2]),
        lambda f: sorted((f / "replay").iterdir())[0].unlink(),
    ],
    ids=["two files", "of two generations", "generations", "extra", "emptied", "steps", "oldest steps"],
)
def test_what_was_swapped_added_or_removed_is_never_used(
    change: Callable[[Path], object], in_ram: Path
) -> None:
    folder = written(in_ram / "run")
    change(folder)
    for _ in range(2):  # the second start knows no more than what the first one left
        try:
            found = load(folder)
        except DataError as error:
            assert MEND in str(error) and str(folder) in str(error)
        else:
            assert found is not None and found.state["number"] == 2
            assert numbers(found) == list(range(20))


def test_steps_that_all_checkpoints_name_count_against_all_of_them(in_ram: Path) -> None:
    folder = written(in_ram / "run")
    oldest = sorted((folder / "replay").iterdir())[0]
    oldest.write_bytes(oldest.read_bytes()[:-1])
    with pytest.raises(DataError, match=oldest.name):
        load(folder)
    assert (folder / "replay" / f"{oldest.name}.corrupt-size").is_file(), "set aside, not deleted"
    with pytest.raises(DataError, match=r"corrupt.*" + MEND):
        load(folder)


def rewritten(folder: Path, **changes: Any) -> None:
    """Change what a manifest says, and seal it as its writer would."""
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["seal"]
    for name, data in changes.pop("contents", {}).items():
        (folder / name).write_bytes(data)
        content["files"][name] = {"num_bytes": len(data), "sha256": storage.sha256_of(folder / name)}
    content |= changes
    seal = hashlib.sha256(json_bytes(content)).hexdigest()
    (folder / "manifest.json").write_bytes(json_bytes({**content, "seal": seal}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"contents": {"tensors.safetensors": b"\x80\x04cos\nsystem\n."}}, "unreadable"),
        ({"contents": {"tensors.safetensors": save({"weights": torch.tensor([1.0, float("nan")])})}}, "not-finite"),
        ({"contents": {"state.json": b"[" * 100_000}}, "unreadable"),
        ({"contents": {"state.json": b"[]"}}, "unreadable"),
        ({"contents": {"state.json": b'{"weights": {"$tensor": "state.other"}}'}}, "unreadable"),
        ({"generation": "generation-000007"}, "swapped"),
        ({"files": {}}, "extra"),
        ({"chunks": [{"begin": 0}]}, "manifest"),
        ({"more": 1}, "manifest"),
    ],
)  # fmt: skip
def test_a_checkpoint_with_the_right_hashes_and_the_wrong_content_is_set_aside(
    changes: dict[str, Any], reason: str, in_ram: Path
) -> None:
    folder = written(in_ram / "run")
    rewritten(folder / "generation-000003", **changes)
    found = load(folder)
    assert found is not None and found.state["number"] == 2
    assert f"generation-000003.corrupt-{reason}" in names(folder)


def test_a_state_that_does_not_fit_the_model_is_set_aside(in_ram: Path) -> None:
    def fits(found: dict[str, Any]) -> None:
        if found["number"] == 3:
            raise DataError("weights are (4, 4), expected (5, 5).")

    folder = written(in_ram / "run")
    found = checkpoints(folder).load(fits)
    assert found is not None and found.state["number"] == 2
    assert "generation-000003.corrupt-unfit" in names(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"digest": "e"}, r"digest d \(now e\)"),
        ({"context": {**CONTEXT, "num_threads": 2}}, r"num_threads 1 \(now 2\)"),
        (
            {"context": {**CONTEXT, "device": "H200", "torch": "2.1"}},
            r"device cpu \(now H200\), torch 2.0 \(now 2.1\)",
        ),
        ({"context": {"device": "cpu"}}, r"torch 2.0 \(now None\)"),
    ],
)
def test_another_configuration_device_or_version_is_refused_with_every_difference(
    changes: dict[str, Any], text: str, in_ram: Path
) -> None:
    folder = written(in_ram / "run")
    before = names(folder)
    with pytest.raises(DataError, match=text):
        load(folder, **changes)
    assert names(folder) == before, "it is not damaged"


@pytest.mark.parametrize("change", [{"schema": 1}, {"schema": 3}, {"kind": "agent"}])
def test_a_checkpoint_of_another_schema_is_refused_with_both_numbers(
    change: dict[str, Any], in_ram: Path
) -> None:
    folder = written(in_ram / "run")
    rewritten(folder / "generation-000003", **change)
    with pytest.raises(DataError, match=f"{next(iter(change.values()))}.* schema 2"):
        load(folder)


def test_numbers_that_are_not_finite_are_not_saved(in_ram: Path) -> None:
    folder = written(in_ram / "run")
    with pytest.raises(DivergedError, match="weights is no longer finite"):
        checkpoints(folder).save({"weights": torch.tensor([float("inf")])}, about={})
    assert load(folder) is not None


def test_a_folder_that_cannot_be_written_is_named(in_ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(in_ram / "run")
    store = checkpoints(folder)
    store.load(accept)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(ResourceError, match=r"cannot write .*generation-000004: Read-only"):
        store.save(state(4), about={}, steps=Counting(0, 40))


class Disk:
    """What a disk may hold after a power cut: synced bytes under synced names.

    Names that were not synced are either all lost or all kept; bytes that were not synced are lost.
    """

    def __init__(self) -> None:
        self.names: dict[str, int | None] = {}  # synced: path -> file number, or None for a folder
        self.pending: list[tuple[str, ...]] = []
        self.written: dict[int, bytes] = {}
        self.synced: dict[int, bytes] = {}
        self.current: dict[str, int] = {}

    def apply(self, operation: str, path: str, *rest: Any) -> None:
        if operation == "write":
            self.written[self.current[path]] += rest[0]
        elif operation == "sync" and path in self.current:
            self.synced[self.current[path]] = self.written[self.current[path]]
        elif operation == "sync":
            self._sync_names(path)
        else:
            if operation == "create":
                self.current[path] = len(self.written)
                rest = (len(self.written),)
                self.written[rest[0]] = b""
            if operation == "rename":
                self.current = {_moved(name, path, rest[0]): file for name, file in self.current.items()}
            self.pending.append((operation, path, *rest))

    def _sync_names(self, folder: str) -> None:
        mine = [change for change in self.pending if str(PurePath(change[1]).parent) == folder]
        self.pending = [change for change in self.pending if change not in mine]
        for change in mine:
            self.names = changed(self.names, *change)

    def after_power_cut(self, folder: Path, *, names_kept: bool) -> None:
        """Write into a folder what is left."""
        names = self.names
        for change in self.pending if names_kept else []:
            names = changed(names, *change)
        for name, file in sorted(names.items()):
            target = folder / PurePath(name).relative_to(min(names, key=len))
            if file is None and target.parent.is_dir():
                target.mkdir(exist_ok=True)
            elif file is not None and target.parent.is_dir():
                target.write_bytes(self.synced.get(file, b""))


def _moved(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if name == old or name.startswith(f"{old}/") else name


def changed(names: dict[str, int | None], operation: str, path: str, *rest: Any) -> dict[str, int | None]:
    """Return the names after one change of a folder."""
    if operation == "rename":
        without = {name: file for name, file in names.items() if name != rest[0]}
        return {_moved(name, path, rest[0]): file for name, file in without.items()}
    if operation in ("unlink", "rmtree"):
        return {name: file for name, file in names.items() if _moved(name, path, "") == name}
    return {**names, path: rest[0] if operation == "create" else None}


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Record every change of the disk that happens inside, in its order."""
    operations: list[tuple[Any, ...]] = []
    paths: dict[int, str] = {}
    is_within = [False]

    def observe(module: Any, name: str, note: Callable[..., tuple[Any, ...] | None]) -> None:
        real = getattr(module, name)

        def function(*arguments: Any, **keywords: Any) -> Any:
            if is_within[0]:
                return real(*arguments, **keywords)
            is_within[0] = True
            try:
                result = real(*arguments, **keywords)
            finally:
                is_within[0] = False
            if (operation := note(result, *arguments)) is not None:
                operations.append(operation)
            return result

        monkeypatch.setattr(module, name, function)

    def opened(descriptor: int, path: Any, flags: int, *_: Any) -> tuple[Any, ...] | None:
        paths[descriptor] = str(path)
        return ("create", str(path)) if flags & os.O_CREAT else None

    observe(os, "open", opened)
    observe(os, "write", lambda num, fd, data: ("write", paths[fd], bytes(data)[:num]))
    observe(os, "fsync", lambda _, fd: ("sync", paths[fd]))
    observe(os, "mkdir", lambda _, path, *__: ("mkdir", str(path)))
    observe(os, "rename", lambda _, old, new: ("rename", str(old), str(new)))
    observe(os, "replace", lambda _, old, new: ("rename", str(old), str(new)))
    observe(os, "unlink", lambda _, path, *__: ("unlink", str(path)))
    observe(shutil, "rmtree", lambda _, path: ("rmtree", str(path)))
    try:
        yield operations
    finally:
        monkeypatch.undo()


def write_without_sync(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, data)
    os.close(descriptor)


def prune_first(self: Checkpoints, *arguments: Any) -> None:
    for folder in self.generations():
        shutil.rmtree(folder)
    PROPER_WRITE(self, *arguments)


PROPER_WRITE = Checkpoints._write
SABOTAGE: dict[str, tuple[Any, str, Any]] = {
    "nothing": (Checkpoints, "_write", PROPER_WRITE),
    "files are not synced": (checkpoint, "write_through", write_without_sync),
    "names are not synced": (checkpoint, "sync_folder", lambda _: None),
    "steps are not synced": (checkpoint, "write_atomically", write_without_sync),
    "pruned before written": (Checkpoints, "_write", prune_first),
}


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new_checkpoint(
    sabotage: str, in_ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*SABOTAGE[sabotage])
    store, steps, ends = checkpoints(in_ram / "run"), Counting(), []
    with recorded(monkeypatch) as operations:
        for number in range(1, 5):
            steps.first_step, steps.end_step = max(0, 10 * number - 20), 10 * number
            store.save(state(number), about={}, steps=steps)
            ends.append(len(operations))
    assert len(operations) > 60
    disk, lost = Disk(), []
    disk.names[str(in_ram)] = None
    for position, operation in enumerate(operations, 1):
        disk.apply(*operation)
        done = sum(end <= position for end in ends)
        for names_kept in (False, True):
            folder = in_ram / "after"
            folder.mkdir()
            disk.after_power_cut(folder, names_kept=names_kept)
            if not survives(folder / "run", done):
                lost.append((position, operation[:2], names_kept))
            shutil.rmtree(folder)
    assert bool(lost) == (sabotage != "nothing"), lost[:5]


def survives(folder: Path, done: int) -> bool:
    """Return whether a folder holds the newest checkpoint that was done, or the one after it, with all its steps."""
    try:
        found = load(folder)
        if found is None:
            return done == 0
        last = int(found.state["number"])
        return last in (done, done + 1) and set(numbers(found)) >= set(
            range(max(0, 10 * last - 20), 10 * last)
        )
    except DataError:
        return False
