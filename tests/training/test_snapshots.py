"""The states of tokenizer and world model that are kept along a training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from irisflow import params
from irisflow.errors import DataError
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import Session, prepare
from irisflow.storage import publish
from irisflow.training.run import train
from irisflow.training.snapshots import Snapshots, read_snapshots

OVERRIDES = ("env.train.id=Catch", "collection.train.config.num_steps=16", "evaluation.should=false")


class PowerCutError(Exception):
    """Ends a training from outside."""


def session() -> tuple[Session, Any]:
    composed = params.compose(Choice("smoke", variant="iris", overrides=OVERRIDES))
    settings = params.stage_settings("train_agent", composed)
    return prepare(settings, scale="smoke", game="Catch"), settings


def snapshots_of(started: tuple[Session, Any], folder: Path, *, cut_after: int | None = None) -> Snapshots:
    """Return the snapshots of a training that power may be cut of after some epoch."""
    (made, settings), snapshots = (
        started,
        Snapshots(started[0].agent, folder / "snapshots", num_epochs=2, num_snapshots=2),
    )

    def after_epoch(_: object, trainer: Any) -> None:
        if trainer.epoch == cut_after:
            raise PowerCutError

    snapshots.begin()
    train(
        made.trainer,
        settings,
        Cost("train_agent"),
        checkpoint=folder / "checkpoints",
        digest="d",
        what="test",
        sinks=[snapshots],
        after_epoch=after_epoch,
    )
    return snapshots


@pytest.mark.parametrize(
    ("num_epochs", "num_snapshots", "epochs"),
    [(2, 2, [0, 1]), (10, 3, [0, 3, 7]), (600, 4, [0, 150, 300, 450]), (2, 9, [0, 1, 2]), (5, 0, [])],
)
def test_snapshots_are_spread_evenly_from_before_training_on(
    num_epochs: int, num_snapshots: int, epochs: list[int], tmp_path: Path
) -> None:
    agent = session()[0].agent
    assert Snapshots(agent, tmp_path, num_epochs=num_epochs, num_snapshots=num_snapshots).epochs == epochs


def test_a_training_that_was_cut_keeps_the_snapshots_of_one_that_was_not(tmp_path: Path) -> None:
    whole = snapshots_of(session(), tmp_path / "whole").collected()
    with pytest.raises(PowerCutError):
        snapshots_of(session(), tmp_path / "cut", cut_after=1)
    torch.manual_seed(99)  # whatever happened in between
    assert snapshots_of(session(), tmp_path / "cut").collected() == whole


def test_snapshots_hold_the_initial_weights_and_later_ones(tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in session()[0].agent.state_dict().items()}
    artefact = {"snapshots.safetensors": snapshots_of(session(), tmp_path).collected()}
    publish(tmp_path / "agent", artefact, kind="agent", digest="d", about={})
    (first_steps, first), (second_steps, second) = read_snapshots(tmp_path / "agent/snapshots.safetensors")
    assert (first_steps, second_steps) == (0, 16)
    assert first.keys() == second.keys() == {name for name in before if not name.startswith("actor_critic.")}
    assert all(torch.equal(first[name], before[name]) for name in first)
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_without_snapshots_nothing_but_the_finished_agent_is_left_to_measure(tmp_path: Path) -> None:
    none = Snapshots(session()[0].agent, tmp_path / "snapshots", num_epochs=2, num_snapshots=0)
    none.begin()
    publish(tmp_path, {"snapshots.safetensors": none.collected()}, kind="agent", digest="d", about={})
    assert list(read_snapshots(tmp_path / "snapshots.safetensors")) == []


def test_damaged_snapshots_are_refused(tmp_path: Path) -> None:
    publish(tmp_path, {"snapshots.safetensors": b"whole"}, kind="agent", digest="d", about={})
    (tmp_path / "snapshots.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        list(read_snapshots(tmp_path / "snapshots.safetensors"))


def test_a_snapshot_damaged_before_the_run_ended_is_refused(tmp_path: Path) -> None:
    snapshots = snapshots_of(session(), tmp_path)
    weights = tmp_path / "snapshots" / "epoch-00000" / "weights.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(DataError, match=r"epoch-00000/weights\.safetensors"):
        snapshots.collected()
