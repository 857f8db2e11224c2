"""One evaluation episode as a row of a score file. Apart from its checks, so that what writes scores needs no statistics."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

RANDOM_PLAY = "random"  # the variant of random play's scores


class EpisodeScore(NamedTuple):
    """One evaluation episode.

    `env_step` is how far training was: the agent's own steps, those of recorded pretraining data included.
    """

    variant: str
    axis: str
    game: str
    seed: int
    split: str
    env_step: int
    pretraining_env_steps: int
    frames: int
    episode: int
    return_raw: float
    length: int
    truncated: bool
    eval_seed: int
    temperature: float
    epsilon: float
    sticky: float
    full_action_set: bool
    checkpoint_sha256: str
    run_id: str


COLUMNS = EpisodeScore._fields


def to_csv(episodes: Iterable[EpisodeScore]) -> str:
    """Return the CSV text that `read_scores` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(episodes)
    return text.getvalue()
