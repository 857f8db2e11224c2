"""The permutation test on the probability of improvement, exact for any number of runs in each game.

A run's wins minus its losses against all runs of its game, of both arms, do not depend on the labels, and those
between runs of one arm cancel. So an arm's wins minus losses are a sum over its runs, and the sums of all ways to
deal out the labels are counted by dynamic programming instead of one by one. Games are independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from irisflow.statistics.permutation import LEVEL, NUM_DRAWS

MOST_SUMS = 50_000
Runs = Float[np.ndarray, " _"]  # games may differ in their number of runs
Chances = Float[np.ndarray, " _"]


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided test's outcome. `smallest_p` is the least p that this many seeds and games can give."""

    p: float
    smallest_p: float
    is_exact: bool
    num_splits: int


def stratified_improvement(games: Sequence[tuple[Runs, Runs]]) -> float:
    """Return P(X > Y) + P(X = Y) / 2 over pairs of runs of a game, averaged over the games."""
    return float(np.mean([0.5 + 0.5 * _net_wins(x, y).sum() / (len(x) * len(y)) for x, y in games]))


def stratified_test(games: Sequence[tuple[Runs, Runs]]) -> PermutationTest:
    """Return the two-sided test of "the probability of improvement is one half"; games may have any run counts.

    Each game counts alike. Labels are permuted within each game, and all ways to do so are counted; only where
    run counts differ so much from game to game that too many sums are possible, 10,000 of them are drawn.
    """
    weights = [len(x) * len(y) for x, y in games]
    unit = math.lcm(*weights)  # sums of shares of pairs become whole numbers
    steps = [unit // weight for weight in weights]
    chances = [_net_win_chances(x, y) for x, y in games]
    observed = sum(int(_net_wins(x, y).sum()) * step for (x, y), step in zip(games, steps, strict=True))
    splits = math.prod(math.comb(len(x) + len(y), len(x)) for x, y in games)
    if 2 * len(games) * unit > MOST_SUMS:
        smallest = max(1 / (NUM_DRAWS + 1), smallest_p(splits))
        return PermutationTest(_sampled_p(chances, steps, observed), smallest, False, splits)
    return PermutationTest(_exact_p(chances, steps, observed), smallest_p(splits), True, splits)


def smallest_p(num_splits: int) -> float:
    """Return the least two-sided p value that so many ways to deal out the labels can give."""
    return min(1.0, 2 / num_splits)


def seeds_needed(num_games: int, num_comparisons: int, level: float = LEVEL) -> int:
    """Return the fewest seeds per game with which the Holm-adjusted test can reach the level."""
    num_seeds = 1
    while num_comparisons * smallest_p(math.comb(2 * num_seeds, num_seeds) ** num_games) >= level:
        num_seeds += 1
    return num_seeds


def _exact_p(chances: Sequence[Chances], steps: Sequence[int], observed: int) -> float:
    """Return the chance of a sum at least as far from 0 as the observed one."""
    reach = sum(len(values) // 2 * step for values, step in zip(chances, steps, strict=True))
    total = np.zeros(2 * reach + 1)
    total[reach] = 1.0
    for values, step in zip(chances, steps, strict=True):
        shifts = (np.arange(len(values)) - len(values) // 2) * step
        total = sum(
            value * np.roll(total, shift) for value, shift in zip(values, shifts, strict=True) if value
        )
    return min(1.0, float(total[np.abs(np.arange(len(total)) - reach) >= abs(observed)].sum()))


def _sampled_p(chances: Sequence[Chances], steps: Sequence[int], observed: int) -> float:
    """Return the same from drawn sums, with the +1 correction."""
    rng = np.random.default_rng(0)
    total = np.zeros(NUM_DRAWS, np.int64)
    for values, step in zip(chances, steps, strict=True):
        total += (rng.choice(len(values), size=NUM_DRAWS, p=values) - len(values) // 2) * step
    return (int((np.abs(total) >= abs(observed)).sum()) + 1) / (NUM_DRAWS + 1)


def _net_wins(x: Runs, y: Runs) -> Int64[np.ndarray, "_ _"]:
    return np.asarray(np.sign(x[:, None] - y[None, :]), np.int64)


def _net_win_chances(x: Runs, y: Runs) -> Chances:
    """Return the chance of each number of wins minus losses, from -len(x) len(y) to len(x) len(y)."""
    pooled = np.concatenate([x, y])
    most = len(pooled) - 1
    ways = np.zeros((len(x) + 1, 2 * len(x) * most + 1))  # number of runs dealt x their wins minus losses
    ways[0, 0] = 1.0
    for net in _net_wins(pooled, pooled).sum(axis=1) + most:
        ways[1:, net:] += ways[:-1, : ways.shape[1] - net].copy()
    middle, reach = len(x) * most, len(x) * len(y)
    return np.asarray(ways[-1, middle - reach : middle + reach + 1] / ways[-1].sum())
