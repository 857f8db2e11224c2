"""docs/your-own-game.md: its files are written, its commands run or understood, in a copy of this checkout."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from documentation import commands

from irisflow import cli, launch, params, study
from irisflow.iris_words import understood
from irisflow.paths import imported
from irisflow.storage import open_artefact
from workspace import ROOT, copy_checkout, irisflow, run

PAGE = ROOT / "docs/your-own-game.md"
FILES = re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
GAME = "minigrid:MiniGrid-Empty-5x5-v0"


def quoted(program: str) -> list[list[str]]:
    return [words for words in commands(PAGE) if words[0] == program]


def test_every_command_of_the_page_is_checked() -> None:
    assert {words[0] for words in commands(PAGE)} == {"uv", "python", "irisflow", "snakemake"}
    assert [words[1] for words in quoted("irisflow")] == ["import-dataset", "collect", "verify"]
    for words in quoted("irisflow"):
        assert cli._parser().parse_args(words[1:])
    assert [words[-1] for words in quoted("snakemake")] == ["study=walks"]


def test_its_runs_by_hand_have_a_valid_configuration() -> None:
    launched = [words[2:] for words in quoted("python") if words[1] == "src/main.py"]
    settings = [params.settings_from(understood(words).overrides) for words in launched]
    assert [one.env.train.id for one in settings] == [GAME, "my_games:Room-v0"]
    assert all(one.env.train.frame_skip == one.env.test.frame_skip == 1 for one in settings)


def test_a_game_that_is_no_atari_game_is_trained_and_evaluated_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = understood(quoted("python")[0][2:]).overrides
    small = [
        "common.epochs=1",
        "evaluation.actor_critic.num_episodes_to_save=0",
        "env.test.max_episode_steps=20",
    ]
    line = [*words, *small, "common.device=cpu", "wandb.mode=disabled", "hydra.run.dir=run"]
    assert launch.main(line) == 0
    rows = [json.loads(row) for row in Path("run/episodes.jsonl").read_text("utf-8").splitlines()]
    tested = [row for row in rows if row["dataset"] == "test_dataset"]
    assert len(tested) == 2 and all(0 < row["episode_length"] <= 20 for row in tested)
    assert open_artefact(Path("run/checkpoints/last"), kind="agent").about["game"] == GAME


@pytest.mark.slow
def test_its_game_is_made_its_data_set_recorded_and_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    folder = copy_checkout(tmp_path / "checkout")
    for name, content in FILES:
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")
    make = (
        "import my_games, gymnasium; print(gymnasium.make('Room-v0', render_mode='rgb_array').action_space)"
    )
    assert "Discrete(3)" in run(folder, sys.executable, "-c", make, check=True).stdout
    run(folder, sys.executable, "record_walks.py", check=True)
    command = next(words for words in quoted("irisflow") if words[1] == "import-dataset")
    assert "8 episodes" in irisflow(folder, *command[1:], check=True).stderr, shlex.join(command)
    monkeypatch.chdir(folder)
    artefact = open_artefact(imported("walks", GAME), kind="imported")
    written = yaml.safe_load((folder / "params/recording/walks.yaml").read_text("utf-8"))
    assert written["sha256"] == {GAME: artefact.sha256["episodes.safetensors.zst"]}
    monkeypatch.setattr(params, "PARAMS", folder / "params")
    monkeypatch.setattr(study, "PARAMS", folder / "params")
    walks = study.load_study("walks")
    assert (walks.games, walks.overrides[1]) == ([GAME], "recording=walks")
