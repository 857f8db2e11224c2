"""Which place a variant takes when one run of each is drawn, game by game: rliable's rank comparison, counted exactly.

rliable draws runs and sorts them many times. All draws can be counted instead: how many of the others lie above a run
and how many level with it is a sum of independent chances. So nothing here is random, nor depends on the variants' order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

Scores = Float[np.ndarray, "runs games"]


def rank_summary(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Return variant -> `shares` (chance of rank 1, 2, ...) and `mean` rank; empty for one variant or without a game.

    Raw scores of the same games, each game counting alike. Runs that tie share their ranks evenly.
    """
    if len(scores) < 2 or not all(values.size for values in scores.values()):
        return {}
    places = np.arange(1, len(scores) + 1)
    chances = {name: rank_chances(scores, name).mean(axis=0) for name in scores}
    return {
        name: {"shares": found.tolist(), "mean": float(places @ found)} for name, found in chances.items()
    }


def rank_chances(scores: Mapping[str, Scores], name: str) -> Float[np.ndarray, "games ranks"]:
    """Return for each game the chance that a run of `name` takes each rank among one run of every variant, best first."""
    own, num_variants = scores[name], len(scores)
    joint = np.zeros((*own.shape, num_variants, num_variants))  # of so many above, so many level
    joint[..., 0, 0] = 1.0
    for other in (found for key, found in scores.items() if key != name):
        above = (other[None] > own[:, None]).mean(axis=1)[..., None, None]
        level = (other[None] == own[:, None]).mean(axis=1)[..., None, None]
        moved = (1 - above - level) * joint
        moved[..., 1:, :] += (above * joint)[..., :-1, :]
        moved[..., :, 1:] += (level * joint)[..., :, :-1]
        joint = moved
    chances = np.zeros((*own.shape, num_variants))
    for num_above in range(num_variants):
        for num_level in range(num_variants - num_above):
            tied = slice(num_above, num_above + num_level + 1)
            chances[..., tied] += joint[..., num_above, num_level, None] / (num_level + 1)
    return np.asarray(chances.mean(axis=0))
