"""A run that is killed, stopped or out of space anywhere, and started again, ends in the same bytes."""

import ast
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src/irisflow"
RAM = Path("/dev/shm")
STOP = "run.resumed:1:term"  # the process stops at its first safe point, and saves


class WarmProcess:
    """Runs trials in forks of a process that has imported torch and built everything."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.num_folders, self.num_kills = folder, 0, 0
        self.process = subprocess.Popen(
            [sys.executable, HERE / "warm.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout and self.process.stdout.readline() == "warm\n"

    def fresh(self) -> Path:
        """Return the name of a folder that does not exist yet."""
        self.num_folders += 1
        return self.folder / f"run-{self.num_folders}"

    def trial(
        self, folder: Path, *, work: str = "Catch", fault: str = "", sabotage: str = "nothing"
    ) -> dict[str, Any]:
        """Return how a process ended that worked in a folder, and what it computed if it came to the end."""
        assert self.process.stdin and self.process.stdout
        trial = {"folder": str(folder), "work": work, "fault": fault, "sabotage": sabotage}
        self.process.stdin.write(json.dumps(trial) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.num_kills += answer["code"] == -9
        return answer

    @cache  # noqa: B019 - there is one of these for all tests
    def whole(self, work: str = "Catch") -> dict[str, Any]:
        """Return what the work comes to if nothing happens."""
        answer = self.trial(self.fresh(), work=work)
        assert answer["code"] == 0, answer["stderr"]
        return answer

    def finish(self, folder: Path, work: str = "Catch", story: object = "") -> None:
        """Assert that a process that meets no fault goes on to the whole run's bytes."""
        answer = self.trial(folder, work=work)
        self.check(answer, work, story)

    def check(self, answer: dict[str, Any], work: str = "Catch", story: object = "") -> None:
        assert answer["code"] == 0, (story, answer["stderr"])
        assert answer["outcome"] == self.whole(work)["outcome"], story

    def kill_at_each(
        self,
        places: list[tuple[str, int]],
        work: str = "Catch",
        *,
        folder: Path | None = None,
        before: str = "",
    ) -> None:
        """Assert that runs killed at all these places, one after another, end in the whole run's bytes.

        `before` is a fault that comes first, in each of the processes.
        """
        folder, story = folder or self.fresh(), []
        for name, count in places:
            fault = f"{before}{name}:{count}:kill"
            answer = self.trial(folder, work=work, fault=fault)
            if answer["code"] == 0:  # it ended before: the place lies earlier in a run
                self.check(answer, work, story)
                folder, story = self.fresh(), []
                answer = self.trial(folder, work=work, fault=fault)
            story.append((name, count))
            assert answer["code"] == -9, (story, answer["stderr"])
        self.finish(folder, work, story)


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    folder = Path(tempfile.mkdtemp(prefix="irisflow-", dir=RAM if RAM.is_dir() else None))
    process = WarmProcess(folder)
    yield process
    print(f"{process.num_kills} kills")
    assert process.process.stdin
    process.process.stdin.close()
    process.process.wait(timeout=60)
    shutil.rmtree(folder)


def named_places() -> set[str]:
    """Return the places that the source names, which must be literal."""
    calls = [
        node
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "faults.point"
    ]
    return {ast.literal_eval(call.args[0]) for call in calls}


def times(reached: dict[str, int], *, in_saving: bool) -> list[tuple[str, int]]:
    """Return the places in or outside of saving, each as often as it is reached."""
    prefixes = ("write", "sync", "checkpoint", "publish")
    return [
        (name, count)
        for name, num in reached.items()
        for count in range(1, num + 1)
        if name.startswith(prefixes) == in_saving
    ]


def test_every_named_place_is_one_where_these_tests_kill(warm: WarmProcess) -> None:
    assert named_places() == {*warm.whole()["reached"], *warm.whole("pretraining")["reached"]}


def newest_tensors(folder: Path) -> str:
    """Return the sha256 of the tensors in the newest generation, from its manifest."""
    newest = sorted(folder.glob("generation-*"))[-1]
    content = json.loads((newest / "manifest.json").read_text())
    return str(content["files"]["tensors.safetensors"]["sha256"])


def test_a_training_killed_anywhere_in_its_first_save_starts_as_if_it_had_not_been(warm: WarmProcess) -> None:
    folder = warm.fresh()
    saved = warm.trial(folder, fault=STOP)
    expected = {newest_tensors(folder)}
    warm.trial(folder, fault=STOP)
    expected.add(newest_tensors(folder))
    for name, count in times(saved["reached"], in_saving=True):
        killed = warm.fresh()
        assert warm.trial(killed, fault=f"{STOP},{name}:{count}:kill")["code"] == -9, (name, count)
        answer = warm.trial(killed, fault=STOP)
        assert answer["code"] == 143 and newest_tensors(killed) in expected, (name, count, answer["stderr"])
        assert not list(killed.glob("**/.*")), "what was half written is gone after the next save"
    warm.finish(killed)


def test_a_training_killed_anywhere_in_a_later_save_goes_on_exactly(warm: WarmProcess) -> None:
    folder, copy = warm.fresh(), warm.fresh()
    assert warm.trial(folder, fault="epoch.saved:2:term")["code"] == 143
    shutil.copytree(folder, copy)
    places = times(warm.trial(copy, fault=STOP)["reached"], in_saving=True)
    assert len(places) >= 20 and ("checkpoint.pruning", 1) in places
    warm.kill_at_each(places, folder=folder, before=f"{STOP},")


def test_a_training_killed_anywhere_else_goes_on_exactly(warm: WarmProcess) -> None:
    reached = warm.whole()["reached"]
    places = [
        place for place in times(reached, in_saving=False) if place[1] in (1, reached[place[0]] * 2 // 3)
    ]
    warm.kill_at_each([*places, ("checkpoint.prune_chunk", 1)])


def test_a_pretraining_killed_anywhere_goes_on_exactly(warm: WarmProcess) -> None:
    reached = warm.whole("pretraining")["reached"]
    warm.kill_at_each([(name, min(2, num)) for name, num in reached.items()], "pretraining")


@pytest.mark.parametrize(("work", "num"), [("Catch", 14), ("Pong", 6)])
def test_a_training_killed_at_random_goes_on_exactly(work: str, num: int, warm: WarmProcess) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    reached = warm.whole(work)["reached"]
    names = rng.choices(list(reached), weights=list(reached.values()), k=num)
    warm.kill_at_each([(name, rng.randint(1, -(-reached[name] // 2))) for name in names], work)


def test_a_training_stopped_at_every_safe_point_goes_on_exactly(warm: WarmProcess) -> None:
    folder, stops, phases, place = warm.fresh(), 0, set(), "run.resumed"
    while stops < 28:  # two epochs; the second one evaluates
        action, code = (("term", 143), ("int", 130), ("usr1", 143))[stops % 3]
        answer = warm.trial(folder, fault=f"{place}:1:{action}")
        stops += 1
        last = answer["stderr"].splitlines()[-1]
        assert answer["code"] == code and last.startswith("irisflow: interrupted (SIG"), answer["stderr"]
        assert "the same command goes on from there" in last and str(folder) in last
        phases.add(last.split(", ")[1].split(" after")[0])
        # Evaluation starts over: ask the next process only after it has passed it.
        place = "epoch.saved" if "evaluate" in last else "run.resumed"
    warm.finish(folder)
    assert phases >= {"collect", "tokenizer", "world model", "actor critic", "evaluate"}


@pytest.mark.parametrize("work", ["Pong", "pretraining"])
def test_a_run_stopped_after_each_of_its_first_steps_goes_on_exactly(work: str, warm: WarmProcess) -> None:
    folder, first = warm.fresh(), "pretrain.resumed" if work == "pretraining" else "run.resumed"
    for _ in range(8):
        answer = warm.trial(folder, work=work, fault=f"{first}:1:term")
        assert answer["code"] == 143, answer["stderr"]
    warm.finish(folder, work)


def test_a_request_to_stop_while_saving_waits_for_the_save_and_a_second_does_not(warm: WarmProcess) -> None:
    folder = warm.fresh()
    answer = warm.trial(folder, fault="write.half:2:term")
    assert answer["code"] == 143 and "after epoch 1, saved in" in answer["stderr"]
    before = sorted(folder.glob("generation-*"))
    for place in ("write.half:2", "checkpoint.rename:1"):
        answer = warm.trial(folder, fault=f"run.resumed:1:int,{place}:usr1")
        assert answer["code"] == 143 and "interrupted" not in answer["stderr"]
        assert sorted(folder.glob("generation-*")) == before
    warm.finish(folder)


@pytest.mark.parametrize(("action", "text"), [("enospc", "no space left writing"), ("eio", "cannot write")])
def test_a_full_disk_leaves_the_checkpoint_before_and_the_rerun_goes_on_exactly(
    action: str, text: str, warm: WarmProcess
) -> None:
    folder = warm.fresh()
    assert warm.trial(folder, fault=STOP)["code"] == 143
    for place in (
        "write.begin:1",
        "write.half:2",
        "write.unsynced:4",
        "sync_folder:3",
        "checkpoint.rename:1",
    ):
        answer = warm.trial(folder, fault=f"{STOP},{place}:{action}")
        lines = [line for line in answer["stderr"].splitlines() if line.startswith("irisflow: ")]
        assert answer["code"] == 4 and len(lines) == 1 and text in lines[0], (place, answer["stderr"])
        assert not list(folder.glob("**/.*")), "what was half written is gone"
    assert (folder / "generation-000001").is_dir()
    warm.finish(folder)


@pytest.mark.parametrize(
    ("place", "count", "tensor"),
    [("update.loss", 1, "the loss term total"), ("update.gradient", 12, "the gradient of")],
)
def test_a_number_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(
    place: str, count: int, tensor: str, warm: WarmProcess
) -> None:
    folder = warm.fresh()
    answer = warm.trial(folder, fault=f"{place}:{count}:nan")
    last = answer["stderr"].splitlines()[-1]
    assert answer["code"] == 6 and tensor in last and f"update {count} in all" in last, last
    good = "none yet" if count == 1 else str(folder / "generation-000001")
    assert f"last good checkpoint: {good}" in last and "learning_rate" in last
    warm.finish(folder)


@pytest.mark.parametrize(
    ("sabotage", "place"),
    [
        ("nothing", "update.done:10"),
        ("global stream", "update.done:10"),
        ("emulator", "update.done:10"),
        ("in place", "write.half:6"),
        ("manifest first", "write.half:3"),
        ("steps dropped", "update.done:10"),
    ],
)
def test_a_broken_way_of_saving_or_restoring_would_be_found(
    sabotage: str, place: str, warm: WarmProcess
) -> None:
    folder = warm.fresh()
    killed = warm.trial(folder, fault=f"{place}:kill", sabotage=sabotage)
    assert killed["code"] == -9
    answer = warm.trial(folder, sabotage=sabotage)
    is_same = answer["code"] == 0 and answer["outcome"] == warm.whole()["outcome"]
    assert is_same == (sabotage == "nothing")


def test_a_finished_run_started_again_does_nothing_more(warm: WarmProcess) -> None:
    folder = warm.fresh()
    warm.check(warm.trial(folder))
    answer = warm.trial(folder)
    warm.check(answer)
    assert "update.done" not in answer["reached"] and "write.begin" not in answer["reached"]
