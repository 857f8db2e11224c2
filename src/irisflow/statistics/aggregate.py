"""Aggregate metrics, profiles and probabilities of improvement, with rliable's stratified bootstrap.

Scores are plain arrays (runs, games), as rliable has them. A run here is a seed. Intervals are 95 %
percentile intervals; with one seed there is none. rliable resamples with NumPy's global generator, so it is
seeded right before every call from the names concerned: an interval does not depend on which other variants
are in the study.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rliable import library, metrics

METRICS = ("iqm", "median", "mean", "optimality_gap")
MIN_VALUES_FOR_IQM = 4


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; `low` and `high` are None where no interval can be given."""

    value: float
    low: float | None = None
    high: float | None = None


@contextmanager
def seeded(*names: str) -> Iterator[None]:
    """Seed NumPy's global generator from names, and put its state back afterwards."""
    state = np.random.get_state()
    np.random.seed(zlib.crc32("\n".join(names).encode()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # rliable passes arch a deprecated argument
            yield
    finally:
        np.random.set_state(state)


def point_aggregates(scores: Float[np.ndarray, "runs games"]) -> Float[np.ndarray, "4"]:
    """Return IQM, median, mean and optimality gap of normalised scores, by rliable's definitions."""
    return np.array(
        [
            metrics.aggregate_iqm(scores),
            metrics.aggregate_median(scores),
            metrics.aggregate_mean(scores),
            metrics.aggregate_optimality_gap(scores),
        ]
    )


def aggregates(
    scores: Float[np.ndarray, "runs games"], *, name: str, reps: int, should_resample_games: bool = False
) -> dict[str, Estimate]:
    """Return every metric of METRICS with its interval.

    The bootstrap resamples runs within each game; with `should_resample_games` also the games ("other games
    like these").
    """
    num_runs, num_games = scores.shape
    if num_runs < 2 or (should_resample_games and num_games < 2):
        return dict(zip(METRICS, map(Estimate, point_aggregates(scores).tolist()), strict=True))
    with seeded("aggregates", name):
        points, intervals = library.get_interval_estimates(
            {name: scores}, point_aggregates, reps=reps, task_bootstrap=should_resample_games
        )
    low, high = intervals[name]
    rows = zip(points[name].tolist(), low.tolist(), high.tolist(), strict=True)
    return dict(zip(METRICS, (Estimate(*row) for row in rows), strict=True))


def iqm(scores: Float[np.ndarray, "runs games"]) -> float:
    """Return the mean of the middle half of all runs of all games; of all, with fewer than 4."""
    return float(iqm_of_columns(scores.reshape(-1, 1))[0])


def iqm_of_columns(values: Float[np.ndarray, "values columns"]) -> Float[np.ndarray, "columns"]:
    """Return the 25 % trimmed mean of every column, as scipy's `trim_mean` defines it."""
    num_cut = int(0.25 * len(values))
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[num_cut : len(values) - num_cut].mean(axis=0))


def iqm_curve(scores: Float[np.ndarray, "runs games steps"], *, name: str, reps: int) -> list[Estimate]:
    """Return the IQM at every evaluation step. Intervals are pointwise: each step is resampled on its own."""

    def curve(sample: Float[np.ndarray, "runs games steps"]) -> Float[np.ndarray, "steps"]:
        return iqm_of_columns(sample.reshape(-1, sample.shape[-1]))

    if len(scores) < 2:
        return [Estimate(value) for value in curve(scores).tolist()]
    with seeded("curve", name):
        points, intervals = library.get_interval_estimates({name: scores}, curve, reps=reps)
    low, high = intervals[name]
    return [Estimate(*row) for row in zip(points[name].tolist(), low.tolist(), high.tolist(), strict=True)]


def performance_profile(
    scores: Float[np.ndarray, "runs games"],
    thresholds: Float[np.ndarray, "thresholds"],
    *,
    name: str,
    reps: int,
) -> list[Estimate]:
    """Return, for each threshold, the share of runs (all games together) that score above it."""

    def profile(
        sample: Float[np.ndarray, "runs games"], taus: Float[np.ndarray, "thresholds"]
    ) -> Float[np.ndarray, "thresholds"]:
        ordered = np.sort(sample, axis=None)
        return 1 - np.searchsorted(ordered, taus, side="right") / ordered.size

    if len(scores) < 2:
        return [Estimate(value) for value in profile(scores, thresholds).tolist()]
    with seeded("profile", name):
        shares, bands = library.create_performance_profile(
            {name: scores}, thresholds, custom_profile_func=profile, reps=reps
        )
    low, high = bands[name]
    return [Estimate(*row) for row in zip(shares[name].tolist(), low.tolist(), high.tolist(), strict=True)]


def improvement_per_game(
    x: Float[np.ndarray, "runs_x games"], y: Float[np.ndarray, "runs_y games"]
) -> Float[np.ndarray, "games"]:
    """Return P(X > Y) + P(X = Y) / 2 over all pairs of runs of each game."""
    difference = x[:, None, :] - y[None, :, :]
    return np.asarray((0.5 * (np.sign(difference) + 1)).mean(axis=(0, 1)))


def probability_of_improvement(
    x: Float[np.ndarray, "runs_x games"], y: Float[np.ndarray, "runs_y games"]
) -> float:
    """Return the mean over games of the probability that a run of X beats a run of Y; ties count one half."""
    return float(improvement_per_game(x, y).mean())


def improvement(
    x: Float[np.ndarray, "runs_x games"],
    y: Float[np.ndarray, "runs_y games"],
    *,
    names: tuple[str, str],
    reps: int,
) -> Estimate:
    """Return the probability of improvement of X over Y with its interval; `names` are those of X and Y.

    The two directions are each other's mirror: P(Y over X) = 1 - P(X over Y), intervals included.
    """
    if names[0] > names[1]:
        mirrored = improvement(y, x, names=names[::-1], reps=reps)
        if mirrored.low is None or mirrored.high is None:
            return Estimate(1 - mirrored.value)
        return Estimate(1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low)
    return _of_pair("improvement", x, y, probability_of_improvement, names=names, reps=reps)


def iqm_difference(
    x: Float[np.ndarray, "runs_x games"],
    y: Float[np.ndarray, "runs_y games"],
    *,
    names: tuple[str, str],
    reps: int,
) -> Estimate:
    """Return IQM(X) - IQM(Y) with its interval."""
    return _of_pair("difference", x, y, lambda x, y: iqm(x) - iqm(y), names=names, reps=reps)


def _of_pair(
    what: str,
    x: Float[np.ndarray, "runs_x games"],
    y: Float[np.ndarray, "runs_y games"],
    statistic: Callable[..., float],
    *,
    names: tuple[str, str],
    reps: int,
) -> Estimate:
    """Return a statistic of two variants whose runs are resampled independently."""
    if min(len(x), len(y)) < 2:
        return Estimate(statistic(x, y))
    with seeded(what, *names):
        points, intervals = library.get_interval_estimates(
            {"pair": [x, y]}, lambda x, y: np.array([statistic(x, y)]), reps=reps
        )
    low, high = intervals["pair"]
    return Estimate(float(points["pair"][0]), float(low[0]), float(high[0]))
