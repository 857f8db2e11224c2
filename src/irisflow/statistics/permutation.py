"""What decides between variants beside the test itself (`exact`), and the p value of a difference of IQMs.

Of the decision rules tried on public Atari-100k scores, the permutation test on the probability of improvement is the
one that keeps its level with few seeds and still has power; overlapping intervals do neither.
"""

import math
import zlib
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from irisflow.statistics.aggregate import iqm, iqm_of_columns

MAX_EXACT_SPLITS = 20_000
NUM_DRAWS = 10_000
DRAWS_AT_ONCE = 500
TOLERANCE = 1e-12
LEVEL = 0.05
RunsX = Float[np.ndarray, "runs_x games"]
RunsY = Float[np.ndarray, "runs_y games"]


def iqm_p(x: RunsX, y: RunsY, *, names: tuple[str, str]) -> float:
    """Return the two-sided p value of "the IQMs are equal": of all splits, or of drawn ones where they are too many."""
    pooled, observed = np.concatenate([x, y]), abs(iqm(x) - iqm(y))
    splits = math.comb(len(pooled), len(x)) ** x.shape[1]
    is_exact = splits <= MAX_EXACT_SPLITS
    draws = _all_splits(x, y, splits) if is_exact else _random_splits(x, y, names)
    num_extreme = 0
    for start in range(0, len(draws), DRAWS_AT_ONCE):
        left, right = _dealt(pooled, draws[start : start + DRAWS_AT_ONCE], len(x))
        num_extreme += int((np.abs(_iqms(left) - _iqms(right)) >= observed - TOLERANCE).sum())
    return num_extreme / splits if is_exact else (num_extreme + 1) / (NUM_DRAWS + 1)


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


def _iqms(sample: Float[np.ndarray, "splits runs games"]) -> Float[np.ndarray, "splits"]:
    return iqm_of_columns(sample.reshape(len(sample), -1).T)
