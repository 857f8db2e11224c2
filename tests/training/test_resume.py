"""A training that was stopped and goes on ends in the same bytes as one that was never stopped."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

from irisflow import params, paths
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import Session, prepare, weights_of
from irisflow.training.checkpoint import Checkpoint, Checkpoints, as_arrays
from irisflow.training.device import computing_context
from irisflow.training.run import History, train
from workspace import copy_checkout, irisflow, own_lines, run, start, wait_for

pytestmark = pytest.mark.slow
OVERRIDES = (
    "common.epochs=3",
    "collection.train.stop_after_epochs=3",
    "collection.train.config.num_steps=16",
)
COMPARED = ("agent.safetensors", "metrics.jsonl", "curve.csv", "reconstructions.safetensors", "params.yaml")


class PowerCutError(Exception):
    """Ends a training from outside."""


def session_for(game: str) -> tuple[Session, Any]:
    """Return a fresh session on a game, and its settings."""
    choice = Choice("smoke", variant="iris", overrides=(f"env.train.id={game}", *OVERRIDES))
    settings = params.stage_settings("train_agent", params.compose(choice))
    return prepare(settings, scale="smoke", game=game), settings


def trained(session: Session, settings: Any, checkpoint: Path, *, cut_after: int | None = None) -> History:
    """Return the history of a training that power may be cut of after some epoch."""

    def after_epoch(_: History, trainer: Any) -> None:
        if trainer.epoch == cut_after:
            raise PowerCutError

    cost = Cost("train_agent")
    return train(
        session.trainer,
        settings,
        cost,
        checkpoint=checkpoint,
        digest="d",
        what="test",
        after_epoch=after_epoch,
    )


@pytest.fixture(scope="module")
def after_one_epoch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A checkpoint on Catch after one epoch, and the weights that it must lead to."""
    folder = tmp_path_factory.mktemp("one-epoch")
    with pytest.raises(PowerCutError):
        trained(*session_for("Catch"), folder / "checkpoint", cut_after=1)
    session, settings = session_for("Catch")
    trained(session, settings, folder / "whole")
    return folder / "checkpoint", weights_of(session.agent)


def newest(session: Session, folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a session's run."""
    context = computing_context(session.device)
    found = Checkpoints(folder, digest="d", context=context).load(session.trainer.check_state)
    assert found is not None
    return found


def finish_without(dropped: str | None, checkpoint: Path) -> bytes:
    """Return the weights that follow if one part of the state is that of a fresh trainer."""
    session, _ = session_for("Catch")
    found = newest(session, checkpoint)
    if dropped is not None:
        found.state[dropped] = session.trainer.get_state()[dropped]
    session.trainer.set_state(found.state, [] if dropped == "replay" else found.steps())
    for _ in session.trainer.epochs():
        pass
    return weights_of(session.agent)


@pytest.mark.parametrize(
    "dropped", ["agent", "optimizers", "replay", "collector", "sample_rng", "generators", "torch_rng"]
)
def test_no_part_of_the_state_can_be_left_out(dropped: str, after_one_epoch: tuple[Path, bytes]) -> None:
    checkpoint, whole = after_one_epoch
    assert finish_without(dropped, checkpoint) != whole


def test_the_whole_state_is_enough(after_one_epoch: tuple[Path, bytes]) -> None:
    checkpoint, whole = after_one_epoch
    assert finish_without(None, checkpoint) == whole


def test_a_state_survives_its_way_to_the_disk(after_one_epoch: tuple[Path, bytes]) -> None:
    checkpoint, _ = after_one_epoch
    session, _ = session_for("Catch")
    found = newest(session, checkpoint)
    session.trainer.set_state(found.state, found.steps())
    again = session.trainer.get_state()
    assert flat({key: found.state[key] for key in again}) == flat(again)


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested state with dotted keys and comparable values."""
    state = as_arrays(state)
    if isinstance(state, dict):
        return {
            key: value
            for name, part in state.items()
            for key, value in flat(part, f"{prefix}.{name}").items()
        }
    if isinstance(state, list | tuple):
        return flat(dict(enumerate(state)), prefix)
    return {prefix: state.tolist() if hasattr(state, "tolist") else state}


def kill(process: "subprocess.Popen[str]") -> None:
    assert process.poll() is None, "it ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def train_agent(*arguments: str) -> tuple[str, ...]:
    names = ("--scale=smoke", "--variant=iris", "--game=Catch", "--seed=0")
    return (sys.executable, "-m", "irisflow", "train-agent", *names, *arguments)


def test_a_killed_stage_goes_on_to_the_artefact_of_one_that_was_not(smoke_run: Path, tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "killed")
    process = start(folder, *train_agent())
    wait_for("resume/train_agent-*/checkpoints/generation-*/manifest.json", folder, process)
    kill(process)
    agent = paths.agent("smoke", "iris", "Catch", 0)
    assert not (folder / agent).exists()
    result = run(folder, *train_agent(), check=True)
    assert "goes on after epoch 1" in result.stderr
    assert not list((folder / "resume").glob("*"))
    for name in COMPARED:
        assert (folder / agent / name).read_bytes() == (smoke_run / agent / name).read_bytes(), name
    costs = [json.loads((root / agent / "cost.json").read_text()) for root in (folder, smoke_run)]
    counts = ("num_starts", "num_resumes", "num_interrupted", "num_died")
    assert [[cost[key] for key in counts] for cost in costs] == [[2, 1, 0, 1], [1, 0, 0, 0]]


def test_pretraining_that_died_twice_ends_in_the_same_bytes_and_tells_of_it(
    smoke_run: Path, finished: Path
) -> None:
    names = ("--scale=smoke", "--tokenizer=iris", "--game=Catch", "--seed=0", "--force")
    command = (sys.executable, "-m", "irisflow", "pretrain-tokenizer", *names)
    for place in ("pretrain.resumed:1", "pretrain.update:2"):  # before the first checkpoint, and after it
        assert run(finished, "env", f"IRISFLOW_FAULT={place}:kill", *command).returncode == -9
    log = next((finished / "resume").glob("pretrain_tokenizer-*/starts.log"))
    assert log.read_text().split() == ["start", "start"]
    run(finished, *command, check=True)
    folder = paths.tokenizer("smoke", "iris", "own", "Catch", 0)
    for name in ("tokenizer.safetensors", "metrics.jsonl", "params.yaml"):
        assert (finished / folder / name).read_bytes() == (smoke_run / folder / name).read_bytes(), name
    cost = json.loads((finished / folder / "cost.json").read_text())
    told = [cost[key] for key in ("num_starts", "num_resumes", "num_interrupted", "num_died")]
    assert told == [3, 1, 0, 2] and not list((finished / "resume").glob("*"))


def test_a_second_process_on_the_same_run_is_turned_away(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "twice")
    arguments = train_agent("--override=common.epochs=1000")
    first = start(folder, *arguments)
    wait_for("resume/train_agent-*/LOCK", folder, first)
    second = run(folder, *arguments)
    assert second.returncode == 7 and own_lines(second.stderr) == second.stderr.splitlines()
    assert str(first.pid) in second.stderr
    kill(first)
    assert not (folder / "results").exists()


def test_both_doors_train_the_same_agent_and_a_stopped_run_by_hand_goes_on(
    smoke_run: Path, tmp_path: Path
) -> None:
    folder = copy_checkout(tmp_path / "by-hand")
    command = (
        sys.executable,
        str(folder / "src/main.py"),
        "env.train.id=Catch",
        "scale=smoke",
        "common.device=cpu",
    )
    process = start(folder, *command)
    manifest = wait_for("outputs/*/*/checkpoints/resume/generation-*/manifest.json", folder, process)
    run_folder = manifest.parents[3]
    process.terminate()
    _, stderr = process.communicate()
    assert process.returncode == 143 and own_lines(stderr) == stderr.splitlines()[-1:], stderr
    assert f"in {run_folder}, ./scripts/resume.sh goes on from there" in stderr
    result = run(run_folder, *command, "common.resume=true", check=True)
    assert " goes on " in result.stderr
    by_hand = (run_folder / "checkpoints/last/agent.safetensors").read_bytes()
    planned = (smoke_run / paths.agent("smoke", "iris", "Catch", 0) / "agent.safetensors").read_bytes()
    assert load(by_hand).keys() == load(planned).keys() and by_hand == planned
    assert {path.name for path in run_folder.iterdir()} >= {
        "checkpoints",
        "config",
        "media",
        "metrics.jsonl",
        "timings.jsonl",
    }
    assert len((run_folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert not irisflow(folder, "list").stderr
