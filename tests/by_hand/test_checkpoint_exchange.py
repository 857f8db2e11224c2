"""Checkpoints of IRIS to run folders and back, as a user does it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import workspace
from irisflow import params
from irisflow.behaviour.agent import build_agent
from irisflow.cli import main
from irisflow.initialization.exchange import iris_tensors
from irisflow.params import Choice

BESIDE = {
    "tokenizer.lpips.lin0.model.1.weight": torch.rand(1, 64, 1, 1),
    "world_model.transformer.blocks.0.attn.mask": torch.ones(2, 2).tril(),
    "world_model.head_rewards.indices": torch.arange(5),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent of Catch as IRIS saves it."""
    torch.manual_seed(3)
    agent = build_agent(params.compose(Choice("smoke", variant="iris")), num_actions=3)
    path = tmp_path_factory.mktemp("iris") / "last.pt"
    torch.save({**{name: tensor.clone() for name, tensor in iris_tensors(agent).items()}, **BESIDE}, path)
    return path


def tensors(path: Path) -> dict[str, Tensor]:
    return dict(torch.load(path, weights_only=True))


def imported(checkpoint: Path, folder: Path, *words: str) -> int:
    return main(
        ["import-checkpoint", str(checkpoint), "--game=Catch", f"--folder={folder}", "--scale=smoke", *words]
    )


def test_a_round_trip_keeps_every_bit_of_every_tensor(checkpoint: Path, tmp_path: Path) -> None:
    assert imported(checkpoint, tmp_path / "run") == 0
    assert main(["export-checkpoint", str(tmp_path / "run"), "--output", str(tmp_path / "back.pt")]) == 0
    before, after = tensors(checkpoint), tensors(tmp_path / "back.pt")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name


@pytest.mark.slow
def test_an_imported_agent_is_evaluated_trains_on_and_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert imported(checkpoint, folder, "--override=wandb.mode=disabled") == 0
    scored = workspace.run(folder, sys.executable, "scripts/eval.py", "--episodes=3", check=True)
    assert "Catch: mean return" in scored.stdout and "3 episodes" in scored.stdout
    workspace.run(folder, "sh", "scripts/resume.sh", check=True)
    assert main(["export-checkpoint", str(folder), "--output", str(tmp_path / "trained.pt")]) == 0
    before, after = tensors(checkpoint), tensors(tmp_path / "trained.pt")
    assert before.keys() == after.keys() and all(before[name].shape == after[name].shape for name in before)
    moved = (after["world_model.pos_emb.weight"] - before["world_model.pos_emb.weight"]).abs().max()
    assert 0 < moved < 0.1, "it went on from the imported weights"
    assert all(torch.equal(after[name], BESIDE[name]) for name in BESIDE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--game=Breakout", "--scale=smoke"], "3 actions; Breakout has 4"),
        (["--game=Catch"], "Allowed: a checkpoint of IRIS made with these sizes"),
        (
            ["--game=Catch", "--scale=smoke", "--override=variant=backbone_gru"],
            "world_model.backbone.name is gru",
        ),
        (["--game=Katch", "--scale=smoke"], "Catch"),
        (["--game=Catch", "--released"], "name a FILE, or --released"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    folder = tmp_path / "run"
    assert main(["import-checkpoint", str(checkpoint), f"--folder={folder}", *words]) != 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("irisflow: ")]
    assert said in line and not folder.exists()


def test_a_folder_that_holds_something_is_left_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("mine")
    assert imported(checkpoint, tmp_path / "run") != 0
    assert "it is not empty" in capsys.readouterr().err and (tmp_path / "run" / "mine").read_text() == "mine"


def test_what_is_no_run_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-checkpoint", str(tmp_path), "--output", str(tmp_path / "last.pt")]) != 0
    assert "does not exist" in capsys.readouterr().err and not (tmp_path / "last.pt").exists()
