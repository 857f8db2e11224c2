"""Aggregate metrics, profiles and probabilities of improvement, by rliable's definitions and with its stratified bootstrap.

Scores are plain arrays (runs, games), as rliable has them. A run here is a seed. Intervals are 95 % percentile
intervals; with one seed there is none. What is resampled, and how a statistic sees many resamples at once: `bootstrap`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rliable import metrics

from irisflow.statistics.bootstrap import interval, interval_over_games, seeded

METRICS = ("iqm", "median", "mean", "optimality_gap")
MIN_VALUES_FOR_IQM = 4
Scores = Float[np.ndarray, "runs games"]
RunsX = Float[np.ndarray, "runs_x games"]
RunsY = Float[np.ndarray, "runs_y games"]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; `low` and `high` are None where no interval can be given."""

    value: float
    low: float | None = None
    high: float | None = None


def point_aggregates(scores: Scores) -> Float[np.ndarray, "4"]:
    """Return IQM, median, mean and optimality gap of normalised scores, by rliable's own functions."""
    return np.array(
        [
            metrics.aggregate_iqm(scores),
            metrics.aggregate_median(scores),
            metrics.aggregate_mean(scores),
            metrics.aggregate_optimality_gap(scores),
        ]
    )


def sample_aggregates(samples: Float[np.ndarray, "draws runs games"]) -> Float[np.ndarray, "draws 4"]:
    """Return `point_aggregates` of every resample."""
    of_games = samples.mean(axis=1)
    found = [
        sample_iqms(samples),
        np.median(of_games, axis=1),
        of_games.mean(axis=1),
        1 - np.minimum(samples, 1).mean(axis=(1, 2)),
    ]
    return np.stack(found, axis=1)


def aggregates(
    scores: Scores, *, name: str, reps: int, should_resample_games: bool = False
) -> dict[str, Estimate]:
    """Return every metric of METRICS with its interval.

    The bootstrap resamples runs within each game; with `should_resample_games` also the games ("other games
    like these").
    """
    num_runs, num_games = scores.shape
    points = point_aggregates(scores).tolist()
    if num_runs < 2 or (should_resample_games and num_games < 2):
        return dict(zip(METRICS, map(Estimate, points), strict=True))
    resampled = interval_over_games if should_resample_games else interval
    with seeded("aggregates", name):
        bounds = resampled(sample_aggregates, scores, reps=reps)
    return dict(zip(METRICS, _estimates(points, bounds), strict=True))


def _estimates(points: list[float], bounds: Float[np.ndarray, "2 numbers"]) -> list[Estimate]:
    return [Estimate(*row) for row in zip(points, *bounds.tolist(), strict=True)]


def iqm(scores: Scores) -> float:
    """Return the mean of the middle half of all runs of all games; of all, with fewer than 4."""
    return float(iqm_of_columns(scores.reshape(-1, 1))[0])


def iqm_of_columns(values: Float[np.ndarray, "values columns"]) -> Float[np.ndarray, "columns"]:
    """Return the 25 % trimmed mean of every column, as scipy's `trim_mean` defines it."""
    num_cut = int(0.25 * len(values))
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[num_cut : len(values) - num_cut].mean(axis=0))


def sample_iqms(samples: Float[np.ndarray, "draws runs games"]) -> Float[np.ndarray, "draws"]:
    """Return the IQM of every resample."""
    ordered = np.sort(samples.reshape(len(samples), -1), axis=1)
    num_cut = int(0.25 * ordered.shape[1])
    return np.asarray(ordered[:, num_cut : ordered.shape[1] - num_cut].mean(axis=1))


def iqm_curve(scores: Float[np.ndarray, "runs games steps"], *, name: str, reps: int) -> list[Estimate]:
    """Return the IQM at every evaluation step. Intervals are pointwise: each step is resampled on its own."""
    points = iqm_of_columns(scores.reshape(-1, scores.shape[-1])).tolist()
    if len(scores) < 2:
        return [Estimate(value) for value in points]

    def curve(samples: Float[np.ndarray, "draws runs games steps"]) -> Float[np.ndarray, "draws steps"]:
        return np.stack([sample_iqms(step) for step in np.moveaxis(samples, 3, 0)], axis=1)

    with seeded("curve", name):
        return _estimates(points, interval(curve, scores, reps=reps))


def performance_profile(
    scores: Scores, thresholds: Float[np.ndarray, "thresholds"], *, name: str, reps: int
) -> list[Estimate]:
    """Return, for each threshold, the share of runs (all games together) that score above it.

    Thresholds ascend.
    """

    def profile(samples: Float[np.ndarray, "draws runs games"]) -> Float[np.ndarray, "draws thresholds"]:
        num_draws, size = len(samples), len(thresholds) + 1
        passed = np.searchsorted(thresholds, samples.reshape(num_draws, -1), side="left")
        places = passed + size * np.arange(num_draws)[:, None]
        counts = np.bincount(places.ravel(), minlength=num_draws * size).reshape(num_draws, size)
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        return np.asarray(above / passed.shape[1])

    points = profile(scores[None])[0].tolist()
    if len(scores) < 2:
        return [Estimate(value) for value in points]
    with seeded("profile", name):
        return _estimates(points, interval(profile, scores, reps=reps))


def improvement_per_game(x: RunsX, y: RunsY) -> Float[np.ndarray, "games"]:
    """Return P(X > Y) + P(X = Y) / 2 over all pairs of runs of each game."""
    difference = x[:, None, :] - y[None, :, :]
    return np.asarray((0.5 * (np.sign(difference) + 1)).mean(axis=(0, 1)))


def probability_of_improvement(x: RunsX, y: RunsY) -> float:
    """Return the mean over games of the probability that a run of X beats a run of Y; ties count one half."""
    return float(improvement_per_game(x, y).mean())


def improvement(x: RunsX, y: RunsY, *, names: tuple[str, str], reps: int) -> Estimate:
    """Return the probability of improvement of X over Y with its interval; `names` are those of X and Y.

    The two directions are each other's mirror: P(Y over X) = 1 - P(X over Y), intervals included.
    """
    if names[0] > names[1]:
        mirrored = improvement(y, x, names=names[::-1], reps=reps)
        if mirrored.low is None or mirrored.high is None:
            return Estimate(1 - mirrored.value)
        return Estimate(1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low)

    def improvements(
        x: Float[np.ndarray, "draws runs_x games"], y: Float[np.ndarray, "draws runs_y games"]
    ) -> Float[np.ndarray, "draws"]:
        """Count wins a run of Y at a time: all pairs of all resamples at once would not fit."""
        won = sum(np.sign(x - run).sum(axis=1) for run in np.moveaxis(y[:, :, None], 1, 0))
        return np.asarray((0.5 + 0.5 * won / (x.shape[1] * y.shape[1])).mean(axis=1))

    return _of_pair("improvement", x, y, improvements, names=names, reps=reps)


def iqm_difference(x: RunsX, y: RunsY, *, names: tuple[str, str], reps: int) -> Estimate:
    """Return IQM(X) - IQM(Y) with its interval."""
    return _of_pair("difference", x, y, lambda x, y: sample_iqms(x) - sample_iqms(y), names=names, reps=reps)


def _of_pair(
    what: str,
    x: RunsX,
    y: RunsY,
    statistic: Callable[..., Float[np.ndarray, "draws"]],
    *,
    names: tuple[str, str],
    reps: int,
) -> Estimate:
    """Return a statistic of two variants whose runs are resampled independently."""
    value = float(statistic(x[None], y[None])[0])
    if min(len(x), len(y)) < 2:
        return Estimate(value)
    with seeded(what, *names):
        bounds = interval(lambda x, y: statistic(x, y)[:, None], x, y, reps=reps)
    return _estimates([value], bounds)[0]
