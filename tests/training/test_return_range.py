"""What the normalisation of returns has averaged is a part of a training's state."""

from pathlib import Path
from typing import Any

import pytest
import torch

from irisflow import params
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import Session, prepare
from irisflow.training.checkpoint import Checkpoints
from irisflow.training.device import computing_context
from irisflow.training.run import train


def session_for(variant: str) -> tuple[Session, Any]:
    """Return a fresh session of one epoch on Catch, without its evaluation."""
    overrides = ("env.train.id=Catch", "common.epochs=1", "evaluation.should=false")
    choice = Choice("smoke", variant=variant, overrides=overrides)
    settings = params.stage_settings("train_agent", params.compose(choice))
    return prepare(settings, scale="smoke", game="Catch"), settings


@pytest.mark.parametrize(("variant", "num_updates"), [("policy_normalised_returns", 2), ("iris", 0)])
def test_a_checkpoint_carries_the_range_of_returns(variant: str, num_updates: int, in_ram: Path) -> None:
    session, settings = session_for(variant)
    train(session.trainer, settings, Cost("train_agent"), checkpoint=in_ram, digest="d", what="test")
    kept = session.trainer.return_range.get_state()
    assert kept["num_updates"] == num_updates
    assert bool(kept["bounds"].any()) == (num_updates > 0)
    other, _ = session_for(variant)
    found = Checkpoints(in_ram, digest="d", context=computing_context(other.device)).load(
        other.trainer.check_state
    )
    assert found is not None
    other.trainer.set_state(found.state, found.steps())
    again = other.trainer.return_range.get_state()
    assert all(torch.equal(again[name], kept[name]) for name in ("bounds", "num_updates"))
