"""Evaluation episodes as rows of a score file."""

import csv
import io

import pytest

from irisflow.stages.request import RunRequest
from irisflow.stages.score_rows import Played, score_rows


@pytest.mark.parametrize(("game", "frames"), [("Pong", "500"), ("Catch", "100")])
def test_frames_are_emulator_frames_and_a_toy_game_has_one_a_step(game: str, frames: str) -> None:
    request = RunRequest.checked("train_agent", "smoke", game, 0, [], None, variant="iris")
    text = score_rows(
        request,
        [Played(env_step=60, episode=0, return_raw=1.0, length=9, truncated=False, eval_seed=7)],
        split="curve",
        axis="baseline",
        frame_skip=5,
        pretraining_env_steps=40,
        temperature=0.5,
        epsilon=0.0,
        checkpoint_sha256="",
    )
    [row] = csv.DictReader(io.StringIO(text))
    assert (row["env_step"], row["pretraining_env_steps"], row["frames"]) == ("100", "40", frames)
