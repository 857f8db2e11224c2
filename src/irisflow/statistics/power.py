"""How many seeds it takes to tell two variants apart, if the difference is the one that was seen: by simulation.

Scores are made up around the means that were seen, game by game, with the games' spread pooled over all variants. The
test is the report's: wins minus losses over all pairs of runs of a game, labels permuted, games alike.
"""

import math
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from irisflow.statistics.permutation import LEVEL

WANTED = 0.8
SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)  # seeds that are tried
NUM_STUDIES = 400
TOLERANCE = 1e-9
MOST_COUNTED = 60  # runs of an arm, all games together: beyond, the sum of wins is close to normal
Scores = Float[np.ndarray, "runs games"]
Means = Float[np.ndarray, "games"]


def seeds_for_power(scores: Mapping[str, Scores], baseline: str) -> dict[str, Any]:
    """Return variant -> `seeds` (of `SIZES`, the fewest with 80 % power; None: more than 50) and `power` now.

    `scores` are raw, of the same games. Level .05 over the number of comparisons, which is what Holm asks of the first.
    Empty where there is one seed, and so no spread.
    """
    others = [name for name in scores if name != baseline]
    num_seeds = min((len(found) for found in scores.values()), default=0)
    if num_seeds < 2 or not others or not scores[baseline].size:
        return {}
    spread, level = pooled_spread(scores), LEVEL / len(others)
    return {
        name: _needed(
            scores[name].mean(axis=0) - scores[baseline].mean(axis=0), spread, num_seeds, level, name
        )
        for name in others
    }


def _needed(shift: Means, spread: Means, num_seeds: int, level: float, name: str) -> dict[str, Any]:
    place = bisect_left(SIZES, WANTED, key=lambda size: power(shift, spread, size, level, name=name))
    return {
        "seeds": SIZES[place] if place < len(SIZES) else None,
        "power": power(shift, spread, num_seeds, level, name=name),
    }


def pooled_spread(scores: Mapping[str, Scores]) -> Means:
    """Return each game's standard deviation of runs around their variant's mean, over all variants (ddof: one each)."""
    squares = sum(((found - found.mean(axis=0)) ** 2).sum(axis=0) for found in scores.values())
    freedom = sum(len(found) - 1 for found in scores.values())
    return np.asarray(np.sqrt(squares / freedom))


def power(shift: Means, spread: Means, num_seeds: int, level: float, *, name: str) -> float:
    """Return how often the test finds means that lie `shift` apart, game by game, with so many seeds an arm.

    The made-up scores depend on the name and the sizes only. A game without spread is won, lost or level each time.
    """
    rng = np.random.default_rng(zlib.crc32(f"power\n{name}\n{num_seeds}".encode()))
    is_still, pairs = spread == 0, num_seeds**2
    effect = (shift[~is_still] / spread[~is_still]).astype(np.float32)
    runs = rng.standard_normal((NUM_STUDIES, len(effect), 2 * num_seeds), dtype=np.float32)
    runs[..., :num_seeds] += effect[:, None]
    is_own = np.argsort(runs, axis=-1) < num_seeds
    wins = is_own @ np.arange(2 * num_seeds) - num_seeds * (num_seeds - 1) // 2
    net = (2 * wins - pairs).sum(axis=-1) + pairs * np.sign(shift[is_still]).sum()
    return float((np.abs(net) >= critical(num_seeds, len(shift), level)).mean())


@cache
def critical(num_seeds: int, num_games: int, level: float) -> float:
    """Return the least sum of wins minus losses whose two-sided p is at most the level; infinite where none is.

    Exact for runs that do not tie; from the normal distribution where there are many.
    """
    pairs = num_seeds**2
    if num_seeds * num_games > MOST_COUNTED:
        variance = num_games * pairs * (2 * num_seeds + 1) / 3  # four times that of Mann and Whitney's U
        return NormalDist().inv_cdf(1 - level / 2) * math.sqrt(variance)
    one, chances = _win_chances(num_seeds), np.ones(1)
    for _ in range(num_games):
        chances = np.convolve(chances, one)
    nets = 2 * np.arange(len(chances)) - pairs * num_games
    tails = 2 * np.cumsum(chances[::-1])[::-1]
    return float(min(nets[(nets > 0) & (tails <= level + TOLERANCE)], default=math.inf))


def _win_chances(num_seeds: int) -> Float[np.ndarray, "wins"]:
    """Return the chance of each number of won pairs, of 0 to all, if labels mean nothing: Mann and Whitney's U."""
    # The coefficients of Gauss's binomial "2 n over n": a product of (1 - q^(n + k)) / (1 - q^k).
    ways = np.ones(1)
    for step in range(1, num_seeds + 1):
        ways = np.convolve(ways, np.bincount([0, num_seeds + step], [1, -1]))
        ways = _divided(ways, step)
    return np.asarray(ways[: num_seeds**2 + 1] / ways[: num_seeds**2 + 1].sum())


def _divided(series: Float[np.ndarray, "terms"], step: int) -> Float[np.ndarray, "terms"]:
    """Return a polynomial divided by 1 - q^step."""
    divided = series.copy()
    for place in range(step, len(divided)):
        divided[place] += divided[place - step]
    return divided
