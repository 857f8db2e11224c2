"""Artefacts and checkpoints are whole or absent, whenever the process dies or the disk is full."""

import fcntl
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from irisflow.errors import DataError, LockedError, ResourceError
from irisflow.locks import single_writer
from irisflow.storage import open_artefact, publish, write_atomically

OLD, NEW = {"a": b"old a", "b": b"old b"}, {"a": b"new a", "b": b"new b"}


def put(folder: Path, files: dict[str, bytes]) -> None:
    publish(folder, files, kind="test", digest="d", about={})


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


def test_an_artefact_never_vouches_for_a_mixture_wherever_its_writer_dies(tmp_path: Path) -> None:
    outcomes, step, died = [], 0, True
    while died:
        folder = tmp_path / str(step)
        put(folder, OLD)
        died = dies_at(step, lambda folder=folder: put(folder, NEW))
        try:
            outcomes.append(content(folder))
        except DataError as error:
            assert "does not exist" in str(error), f"step {step}"
        step += 1
    assert OLD in outcomes and outcomes[-1] == NEW
    assert all(outcome in (OLD, NEW) for outcome in outcomes)


def test_a_full_disk_leaves_the_old_artefact(tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    put(folder, OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"no space left .*\(needs 0\.0 MB, [0-9.]+ MB free\)"):
            put(folder, {"a": b"new a", "b": bytes(5000)})
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
    put(tmp_path / "artefact", OLD)
    (tmp_path / "artefact" / name).write_bytes(damage)
    with pytest.raises(DataError, match=f"{name}.*dvc checkout"):
        content(tmp_path / "artefact")


def test_an_artefact_of_another_kind_is_refused(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    with pytest.raises(DataError, match=r"expected an? agent"):
        open_artefact(tmp_path, kind="agent")


def in_child(work: Callable[[], None]) -> int:
    """Return the number of a child process that does the work and ends."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def hold(folder: Path, ready: int) -> None:
    with single_writer(folder):
        os.write(ready, b".")
        time.sleep(60)


def test_a_lock_names_its_holder_and_ends_with_it_even_before_it_is_buried(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ready, go = os.pipe()
    child = in_child(lambda: hold(folder, go))
    os.read(ready, 1)
    who = rf"process {child} on \S+ \(started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, boot [-0-9a-f]{{36}}\)"
    with pytest.raises(LockedError, match=who), single_writer(folder):
        pass
    os.kill(child, 9)
    while "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1].split()[0]:
        time.sleep(0.01)
    with single_writer(folder):  # the child is a zombie: nobody has waited for it
        pass
    os.waitpid(child, 0)


def test_a_child_neither_inherits_a_lock_nor_takes_it_away(tmp_path: Path) -> None:
    def try_it() -> None:
        with (tmp_path / "run/LOCK").open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(7)

    with single_writer(tmp_path / "run"):
        for _ in range(2):
            assert os.waitstatus_to_exitcode(os.waitpid(in_child(try_it), 0)[1]) == 7
        with pytest.raises(LockedError, match="this process itself"), single_writer(tmp_path / "run"):
            pass
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
        child = in_child(lambda: time.sleep(60))
    try:
        with single_writer(tmp_path / "run"):  # both outlive the holder and do not hold it
            pass
    finally:
        worker.kill()
        worker.wait()
        os.kill(child, 9)
        os.waitpid(child, 0)


RACE = """
import sys
from pathlib import Path
from irisflow.errors import LockedError
from irisflow.locks import single_writer
for line in sys.stdin:
    try:
        with single_writer(Path(line.strip())):
            print("won", flush=True)
            sys.stdin.readline()
    except LockedError:
        print("lost", flush=True)
        sys.stdin.readline()
"""


def test_of_two_processes_that_race_for_a_run_exactly_one_wins(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]

    def tell(text: str) -> None:
        for racer in racers:
            assert racer.stdin
            racer.stdin.write(f"{text}\n")
            racer.stdin.flush()

    for number in range(20):
        tell(str(tmp_path / str(number)))
        assert sorted(racer.stdout.readline() for racer in racers if racer.stdout) == ["lost\n", "won\n"]
        tell("end")
    for racer in racers:
        racer.communicate()


def test_a_failed_block_keeps_the_folder_only_if_it_wrote_something(tmp_path: Path) -> None:
    for name, wrote in (("empty", False), ("begun", True)):
        folder = tmp_path / "resume" / name
        with pytest.raises(RuntimeError), single_writer(folder, is_temporary=True):
            if wrote:
                (folder / "checkpoint").mkdir()
            raise RuntimeError
        assert folder.exists() == wrote
