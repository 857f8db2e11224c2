"""Evaluation episodes as rows of a score file."""

from collections.abc import Sequence
from dataclasses import dataclass

from irisflow.games import TOY
from irisflow.stages.request import RunRequest
from irisflow.statistics.episode_score import RANDOM_PLAY, EpisodeScore, to_csv


@dataclass(frozen=True)
class Played:
    """One evaluation episode and when in training it was played. `env_step` counts the agent's own steps."""

    env_step: int
    episode: int
    return_raw: float
    length: int
    truncated: bool
    eval_seed: int


def score_rows(
    request: RunRequest,
    played: Sequence[Played],
    *,
    split: str,
    axis: str,
    frame_skip: int,
    pretraining_env_steps: int,
    temperature: float,
    epsilon: float,
    checkpoint_sha256: str,
) -> str:
    """Return the CSV of episodes; its `env_step` counts the steps of the recordings that pretraining read, too.

    `frame_skip` is that of training; a toy game has one frame a step.
    """
    frames_per_step = 1 if request.game in TOY else frame_skip
    scale, variant = request.scale, request.choice.variant or RANDOM_PLAY
    return to_csv(
        EpisodeScore(
            variant=variant,
            axis=axis,
            game=request.game,
            seed=request.seed,
            split=split,
            env_step=row.env_step + pretraining_env_steps,
            pretraining_env_steps=pretraining_env_steps,
            frames=(row.env_step + pretraining_env_steps) * frames_per_step,
            episode=row.episode,
            return_raw=row.return_raw,
            length=row.length,
            truncated=row.truncated,
            eval_seed=row.eval_seed,
            temperature=temperature,
            epsilon=epsilon,
            sticky=0.0,
            full_action_set=False,
            checkpoint_sha256=checkpoint_sha256,
            run_id=f"{scale}/{variant}/{request.game}/seed-{request.seed}",
        )
        for row in played
    )
