"""Permutation tests of a variant against the baseline: labels are permuted within each game.

Of the decision rules tried on public Atari-100k scores, the permutation test on the probability of
improvement is the one that keeps its level with few seeds and still has power; overlapping intervals do
neither.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from irisflow.statistics.aggregate import iqm, iqm_of_columns, probability_of_improvement

MAX_EXACT_SPLITS = 20_000
NUM_DRAWS = 10_000
DRAWS_AT_ONCE = 500
TOLERANCE = 1e-12
LEVEL = 0.05
RunsX = Float[np.ndarray, "runs_x games"]
RunsY = Float[np.ndarray, "runs_y games"]
Statistic = Callable[
    [Float[np.ndarray, "splits runs games"], Float[np.ndarray, "splits runs games"]], np.ndarray
]


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided test's outcome. `smallest_p` is the least p that this many seeds and games can give."""

    p: float
    smallest_p: float
    is_exact: bool
    num_splits: int


def improvement_test(x: RunsX, y: RunsY, *, names: tuple[str, str]) -> PermutationTest:
    """Return the test of "the probability of improvement is one half"."""
    return _permute(x, y, _improvements, abs(probability_of_improvement(x, y) - 0.5), names)


def iqm_test(x: RunsX, y: RunsY, *, names: tuple[str, str]) -> PermutationTest:
    """Return the test of "the IQMs are equal"."""
    return _permute(x, y, _iqm_differences, abs(iqm(x) - iqm(y)), names)


def num_splits(num_x: int, num_y: int, num_games: int) -> int:
    """Return in how many ways labels can be dealt out within the games."""
    return int(math.comb(num_x + num_y, num_x) ** num_games)


def smallest_p(num_x: int, num_y: int, num_games: int) -> float:
    """Return the least two-sided p value that the test on the probability of improvement can give."""
    splits = num_splits(num_x, num_y, num_games)
    if splits > MAX_EXACT_SPLITS:
        return 1 / (NUM_DRAWS + 1)
    return min(1.0, 2 / splits)


def seeds_needed(num_games: int, num_comparisons: int, level: float = LEVEL) -> int:
    """Return the fewest seeds per game with which the Holm-adjusted test can reach the level."""
    num_seeds = 1
    while num_comparisons * smallest_p(num_seeds, num_seeds, num_games) >= level:
        num_seeds += 1
    return num_seeds


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the Holm-adjusted p values of a family of comparisons."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: (item[1], item[0]))
    for index, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - index) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def verdict(comparison: Mapping[str, Any]) -> str:
    """Return what the Holm-adjusted test lets one say: better, worse, not separated, too few runs."""
    if comparison["smallest_p_holm"] >= LEVEL:
        return "too few runs"
    if comparison["p_holm"] >= LEVEL:
        return "not separated"
    return "better" if comparison["improvement"]["value"] > 0.5 else "worse"


def _permute(
    x: RunsX, y: RunsY, statistic: Statistic, observed: float, names: tuple[str, str]
) -> PermutationTest:
    pooled = np.concatenate([x, y])
    splits = num_splits(len(x), len(y), x.shape[1])
    is_exact = splits <= MAX_EXACT_SPLITS
    draws = _all_splits(x, y, splits) if is_exact else _random_splits(x, y, names)
    num_extreme = 0
    for start in range(0, len(draws), DRAWS_AT_ONCE):
        left, right = _dealt(pooled, draws[start : start + DRAWS_AT_ONCE], len(x))
        num_extreme += int((np.abs(statistic(left, right)) >= observed - TOLERANCE).sum())
    p = num_extreme / splits if is_exact else (num_extreme + 1) / (NUM_DRAWS + 1)
    return PermutationTest(p, smallest_p(len(x), len(y), x.shape[1]), is_exact, splits)


def _all_splits(x: RunsX, y: RunsY, splits: int) -> Int[np.ndarray, "splits runs games"]:
    """Return every assignment as an order of the pooled runs: the first len(x) of a game are labelled X."""
    num_runs = len(x) + len(y)
    orders = np.array([_order(chosen, num_runs) for chosen in combinations(range(num_runs), len(x))])
    choice = np.indices((len(orders),) * x.shape[1]).reshape(x.shape[1], splits)
    return np.moveaxis(orders[choice], (0, 1, 2), (2, 0, 1))


def _order(chosen: tuple[int, ...], num_runs: int) -> list[int]:
    return [*chosen, *(run for run in range(num_runs) if run not in chosen)]


def _random_splits(x: RunsX, y: RunsY, names: tuple[str, str]) -> Int[np.ndarray, "splits runs games"]:
    rng = np.random.default_rng(zlib.crc32("\n".join(("permutation", *sorted(names))).encode()))
    shape = (NUM_DRAWS, len(x) + len(y), x.shape[1])
    return np.argsort(rng.random(shape, dtype=np.float32), axis=1).astype(np.int32)


def _dealt(
    pooled: Float[np.ndarray, "runs games"], orders: Int[np.ndarray, "splits runs games"], num_x: int
) -> tuple[Float[np.ndarray, "splits runs_x games"], Float[np.ndarray, "splits runs_y games"]]:
    dealt = np.take_along_axis(pooled[None], orders, axis=1)
    return dealt[:, :num_x], dealt[:, num_x:]


def _improvements(
    x: Float[np.ndarray, "splits runs_x games"], y: Float[np.ndarray, "splits runs_y games"]
) -> Float[np.ndarray, "splits"]:
    """Return PoI - 1/2 of every split."""
    signs = np.sign(x[:, :, None] - y[:, None, :])
    return np.asarray(0.5 * signs.mean(axis=(1, 2, 3)))


def _iqm_differences(
    x: Float[np.ndarray, "splits runs_x games"], y: Float[np.ndarray, "splits runs_y games"]
) -> Float[np.ndarray, "splits"]:
    return np.asarray(_iqms(x) - _iqms(y))


def _iqms(sample: Float[np.ndarray, "splits runs games"]) -> Float[np.ndarray, "splits"]:
    return iqm_of_columns(sample.reshape(len(sample), -1).T)
