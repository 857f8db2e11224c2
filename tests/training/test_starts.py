"""Starts of work that can be continued are counted, whatever ends them, and leave no trace in its results."""

import errno
import os
import signal
from pathlib import Path

import pytest

from irisflow import starts
from irisflow.errors import DataError, ResourceError
from irisflow.interruption import Interrupted
from irisflow.locks import single_writer
from irisflow.provenance import Cost
from irisflow.starts import NAME, StartLog, counted


def log_of(folder: Path, text: str) -> StartLog:
    (folder / NAME).write_text(text)
    return StartLog(folder)


def counts(folder: Path) -> list[int]:
    """Return how often the work was started, resumed, interrupted and died, if it is at work now."""
    return list(StartLog(folder).counts().values())


def work(
    folder: Path, error: BaseException | None = None, *, checkpoint: bool = False, resumed: bool = False
) -> Cost:
    """Do some work in a folder as a stage does, which ends with an error."""
    cost = Cost("train_agent")
    with single_writer(folder, is_temporary=True), counted(cost, folder):
        if resumed:
            cost.go_on(12.5)
        if checkpoint:
            (folder / "checkpoints").mkdir(exist_ok=True)
        if error is not None:
            raise error
        cost.told = cost.record()  # type: ignore[attr-defined]
    return cost


STOP = Interrupted(signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["start"], [1, 0, 0, 0]),
        (["start", "start", "resumed"], [2, 1, 0, 1]),
        (["start", "interrupted", "start", "resumed"], [2, 1, 1, 0]),
        (["start", "finished", "start", "resumed"], [2, 1, 0, 0]),
        (["start", "start", "interrupted", "start", "resumed", "start"], [4, 1, 1, 2]),
    ],
)
def test_a_start_that_neither_finished_nor_was_interrupted_has_died(
    words: list[str], expected: list[int], tmp_path: Path
) -> None:
    assert list(log_of(tmp_path, "".join(f"{word}\n" for word in words)).counts().values()) == expected


def test_half_a_word_counts_for_nothing_and_spoils_no_other(tmp_path: Path) -> None:
    log = log_of(tmp_path, "start\nsta")
    log.note("start")
    assert log.path.read_text() == "start\nsta\nstart\n" and counts(tmp_path)[0] == 2


def test_work_that_is_killed_and_goes_on_tells_so_in_its_cost_and_leaves_no_log(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    log_of(folder, "start\n")  # killed
    with pytest.raises(Interrupted):
        work(folder, STOP, checkpoint=True)
    cost = work(folder, checkpoint=True, resumed=True)
    told = cost.told  # type: ignore[attr-defined]
    assert [told[key] for key in told if key.startswith("num_") and key != "num_updates"] == [3, 1, 1, 1]
    assert told["wall_s"] >= 12.5 and not folder.exists()


@pytest.mark.parametrize("error", [DataError("no such tokenizer."), STOP], ids=["refused", "interrupted"])
def test_a_first_start_that_ends_before_anything_is_written_leaves_nothing(
    error: BaseException, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        work(tmp_path / "work", error)
    assert not (tmp_path / "work").exists()


def test_what_died_before_is_not_forgotten_where_the_next_start_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    log_of(folder, "start\n")
    with pytest.raises(DataError):
        work(folder, DataError("no such tokenizer."))
    assert counts(folder) == [2, 0, 0, 1]


def test_an_error_of_the_program_before_the_first_checkpoint_is_counted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        work(tmp_path / "work", RuntimeError("CUDA out of memory"))
    StartLog(tmp_path / "work").note("start")
    assert counts(tmp_path / "work") == [2, 0, 0, 1]


def test_a_full_disk_does_not_hide_that_and_where_work_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = StartLog.note

    def note(self: StartLog, word: str) -> None:
        if word == starts.INTERRUPTED:
            raise ResourceError("no space left.")
        noted(self, word)

    monkeypatch.setattr(StartLog, "note", note)
    with pytest.raises(Interrupted):
        work(tmp_path / "work", STOP, checkpoint=True)


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(ResourceError, match=r"no space left writing .*starts\.log"):
        work(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_run_by_hand_that_has_finished_may_be_started_again(tmp_path: Path) -> None:
    for _ in range(2):
        cost = Cost("train_agent")
        with counted(cost, tmp_path):
            told = cost.record()
    assert (told["num_starts"], told["num_died"]) == (2, 0)
    assert (tmp_path / NAME).read_text().split() == ["start", "finished"] * 2
