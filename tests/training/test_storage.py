"""Artefacts and checkpoints are whole or absent, whenever the process dies or the disk is full."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from irisflow.errors import DataError, LockedError, ResourceError
from irisflow.locks import single_writer
from irisflow.storage import open_artefact, publish, publish_folder, recover_folder, write_atomically

OLD, NEW = {"a": b"old a", "b": b"old b"}, {"a": b"new a", "b": b"new b"}
Publish = Callable[..., None]


def put(function: Publish, folder: Path, files: dict[str, bytes]) -> None:
    function(folder, files, kind="test", digest="d", about={})


def content(folder: Path) -> dict[str, bytes]:
    artefact = open_artefact(folder, kind="test")
    return {name: artefact.read(name) for name in artefact.sha256}


def dies_at(step: int, work: Callable[[], None]) -> bool:
    """Run `work` in a child that dies before its `step`-th change of the disk; return whether it died."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(change: Callable[..., object]) -> Callable[..., object]:
            def function(*arguments: object, **keywords: object) -> object:
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return change(*arguments, **keywords)

            return function

        for name in ("rename", "replace", "unlink", "rmdir", "fsync", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_checkpoint_is_the_old_or_the_new_one_wherever_its_writer_dies(tmp_path: Path) -> None:
    seen, step = set(), 0
    while True:
        folder = tmp_path / str(step) / "checkpoint"
        put(publish_folder, folder, OLD)
        died = dies_at(step, lambda folder=folder: put(publish_folder, folder, NEW))
        recover_folder(folder)
        assert content(folder) in (OLD, NEW), f"step {step}"
        put(publish_folder, folder, NEW)
        assert content(folder) == NEW, "a later checkpoint is not hindered by what the dead one left"
        seen.add(died)
        if not died:
            break
        step += 1
    assert step > 8 and seen == {True, False}


def test_an_artefact_never_vouches_for_a_mixture_wherever_its_writer_dies(tmp_path: Path) -> None:
    outcomes, step, died = [], 0, True
    while died:
        folder = tmp_path / str(step)
        put(publish, folder, OLD)
        died = dies_at(step, lambda folder=folder: put(publish, folder, NEW))
        try:
            outcomes.append(content(folder))
        except DataError as error:
            assert "does not exist" in str(error), f"step {step}"
        step += 1
    assert OLD in outcomes and outcomes[-1] == NEW
    assert all(outcome in (OLD, NEW) for outcome in outcomes)


@pytest.mark.parametrize("function", [publish, publish_folder])
def test_a_full_disk_leaves_the_old_artefact(function: Publish, tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    put(function, folder, OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(ResourceError, match="no space left"):
            put(function, folder, {"a": b"new a", "b": bytes(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(folder) == OLD
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "artefact", "b", "manifest.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for step in range(3):
        write_atomically(path, b"old")
        dies_at(step, lambda: write_atomically(path, b"new"))
        assert path.read_bytes() in (b"old", b"new")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a", b"0ld a"),
        ("a", b""),
        ("manifest.json", b"{"),
        ("manifest.json", b"[]"),
        ("manifest.json", b"{}"),
    ],
)
def test_a_damaged_artefact_is_refused_with_its_name_and_a_way_out(
    name: str, damage: bytes, tmp_path: Path
) -> None:
    put(publish, tmp_path / "artefact", OLD)
    (tmp_path / "artefact" / name).write_bytes(damage)
    with pytest.raises(DataError, match=f"{name}.*dvc checkout"):
        content(tmp_path / "artefact")


def test_an_artefact_of_another_kind_is_refused(tmp_path: Path) -> None:
    put(publish, tmp_path, OLD)
    with pytest.raises(DataError, match=r"expected an? agent"):
        open_artefact(tmp_path, kind="agent")


def test_a_lock_ends_with_its_holder_and_keeps_others_out(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        with single_writer(folder):
            os.write(go, b".")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(LockedError, match=str(child)), single_writer(folder):
        pass
    os.kill(child, 9)
    os.waitpid(child, 0)
    with single_writer(folder):
        pass


def test_a_failed_block_keeps_the_folder_only_if_it_wrote_something(tmp_path: Path) -> None:
    for name, wrote in (("empty", False), ("begun", True)):
        folder = tmp_path / "resume" / name
        with pytest.raises(RuntimeError), single_writer(folder, is_temporary=True):
            if wrote:
                (folder / "checkpoint").mkdir()
            raise RuntimeError
        assert folder.exists() == wrote
