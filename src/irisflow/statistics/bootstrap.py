"""rliable's stratified bootstrap for all resamples at once: the same draws in the same order, without a call for each.

rliable resamples with NumPy's global generator and calls the statistic once a resample, from Python. Here the generator is
seeded from the names concerned, so that an interval does not depend on which other variants are in the study; runs are
drawn exactly as rliable draws them; and a statistic gets many resamples in one array. The tests hold the intervals
against those of rliable's own functions.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float, Int

PERCENTILES = (2.5, 97.5)
MOST_VALUES = 4_000_000  # resampled values in memory at once
Samples = Float[np.ndarray, "draws runs games *rest"]
Values = Float[np.ndarray, "draws numbers"]


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


def interval(
    statistic: Callable[..., Values], *scores: Float[np.ndarray, "runs games *rest"], reps: int
) -> Float[np.ndarray, "2 numbers"]:
    """Return the 95 % percentile interval of each number of a statistic; runs are resampled within each game.

    `statistic` gets an array of resamples for each array of scores, which are resampled independently of each other.
    """
    values = [statistic(*samples) for samples in _resamples(scores, reps)]
    return np.asarray(np.percentile(np.concatenate(values), PERCENTILES, axis=0))


def interval_over_games(
    statistic: Callable[[Samples], Values], scores: Float[np.ndarray, "runs games"], *, reps: int
) -> Float[np.ndarray, "2 numbers"]:
    """Return the wider interval for which the games are resampled too ("other games like these")."""
    num_runs, num_games = scores.shape
    samples = np.empty((reps, num_runs, num_games))
    for draw in range(reps):
        runs = np.random.choice(num_runs, (num_runs, num_games))
        samples[draw] = scores[runs, np.random.choice(num_games, (1, num_games))]
    return np.asarray(np.percentile(statistic(samples), PERCENTILES, axis=0))


def _resamples(scores: Sequence[Float[np.ndarray, "runs games *rest"]], reps: int) -> Iterator[list[Samples]]:
    """Yield resamples of every array, as many at once as fit."""
    at_once = max(1, MOST_VALUES // sum(array.size for array in scores))
    for start in range(0, reps, at_once):
        drawn = _draw([array.shape for array in scores], min(at_once, reps - start))
        yield [
            np.take_along_axis(array[None], runs, axis=1) for array, runs in zip(scores, drawn, strict=True)
        ]


def _draw(
    shapes: Sequence[tuple[int, ...]], num_draws: int
) -> list[Int[np.ndarray, "draws runs games *rest"]]:
    """Return for each array which runs are drawn; a draw takes all arrays in turn, as rliable does."""
    if len({shape[0] for shape in shapes}) > 1:
        rows = [[np.random.choice(shape[0], shape) for shape in shapes] for _ in range(num_draws)]
        return [np.stack(drawn) for drawn in zip(*rows, strict=True)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    drawn = np.random.choice(shapes[0][0], (num_draws, sum(sizes)))
    parts = np.split(drawn, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(num_draws, *shape) for part, shape in zip(parts, shapes, strict=True)]
