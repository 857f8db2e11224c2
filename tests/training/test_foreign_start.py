"""A run that starts from another program's checkpoint takes the parts that it is told to, and says so in its records."""

import json
from pathlib import Path

import pytest
import torch
from warm import TINY, settings_for

from irisflow import params
from irisflow.checkout import git_state
from irisflow.errors import DataError
from irisflow.initialization.reference_names import to_reference
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import files_of, prepare
from irisflow.storage import sha256_of
from irisflow.training.run import History


def checkpoint_of_iris(folder: Path) -> Path:
    """Return the file of an agent whose every weight is 0.01 away from where Catch's starts."""
    agent, path = prepare(settings_for("Catch"), scale="smoke", game="Catch").agent, folder / "last.pt"
    tensors = {
        f"{part}.{name}": tensor + 0.01
        for part in ("tokenizer", "world_model", "actor_critic")
        for name, tensor in to_reference(part, getattr(agent, part).state_dict()).items()
        if tensor.is_floating_point()
    }
    torch.save(tensors, path)
    return path


def test_the_keys_load_decide_which_parts_a_file_gives_and_the_provenance_has_them(tmp_path: Path) -> None:
    path = checkpoint_of_iris(tmp_path)
    chosen = (f"initialization.path_to_checkpoint={path}", "initialization.load_actor_critic=false")
    choice = Choice("smoke", variant="iris", overrides=("env.train.id=Catch", *TINY, *chosen))
    settings = params.stage_settings("train_agent", params.compose(choice))
    session = prepare(settings, scale="smoke", game="Catch")
    fresh = prepare(settings_for("Catch"), scale="smoke", game="Catch").agent
    for part in ("tokenizer", "world_model", "actor_critic"):
        found, started = (dict(getattr(agent, part).named_parameters()) for agent in (session.agent, fresh))
        shift = 0.0 if part == "actor_critic" else 0.01
        assert all(torch.allclose(found[name], started[name] + shift) for name in started), part
    list(session.trainer.epochs())
    made = files_of(session, settings, History(), Cost("test"), "d", git=git_state())
    record = json.loads(made["provenance.json"])
    assert record["inputs"] == {str(path): sha256_of(path)}
    assert record["initial_weights"]["sha256"] == sha256_of(path)
    assert {name.split(".")[0] for name in record["initial_weights"]["used"]} == {"tokenizer", "world_model"}
    assert {name.split(".")[0] for name in record["initial_weights"]["unused"]} == {"actor_critic"}


def test_a_path_with_nothing_there_is_refused(tmp_path: Path) -> None:
    chosen = f"initialization.path_to_checkpoint={tmp_path / 'none.pt'}"
    choice = Choice("smoke", variant="iris", overrides=("env.train.id=Catch", *TINY, chosen))
    with pytest.raises(DataError, match="does not exist"):
        prepare(params.stage_settings("train_agent", params.compose(choice)), scale="smoke", game="Catch")
