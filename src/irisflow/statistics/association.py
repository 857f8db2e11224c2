"""Do the runs whose world models predict better score higher? A rank correlation over runs, within games."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from irisflow.statistics.reference import reference
from irisflow.statistics.scores import Run

METRIC, MODE = "open_psnr", "greedy"
FEWEST_PER_GAME, FEWEST_RUNS = 4, 8
MOST_REPS = 500
Pairs = Float[np.ndarray, "runs 2"]


def prediction_and_score(rows: pd.DataFrame, means: Mapping[Run, float], *, reps: int) -> dict[str, Any]:
    """Return `runs` (each run's `open_psnr` and `score`) and `association`, None with fewer than 8 runs in games of 4.

    `open_psnr`: of the finished world model's likeliest frames after the shortest context, mean over the horizon, in dB.
    Scores are normalised where the game has reference scores. Empty where nothing was measured.
    """
    predicted = _open_psnr(rows)
    runs = [run for run in sorted(predicted) if run in means]
    if not runs:
        return {}
    points = {run: (predicted[run], _normalised(run, means[run])) for run in runs}
    by_game = {
        game: np.array([points[run] for run in runs if run.game == game])
        for game in dict.fromkeys(run.game for run in runs)
    }
    enough = {game: pairs for game, pairs in by_game.items() if len(pairs) >= FEWEST_PER_GAME}
    num_runs = sum(len(pairs) for pairs in enough.values())
    return {
        "runs": [{**run._asdict(), "open_psnr": points[run][0], "score": points[run][1]} for run in runs],
        "association": association(enough, reps=reps) if num_runs >= FEWEST_RUNS else None,
    }


def association(by_game: Mapping[str, Pairs], *, reps: int) -> dict[str, Any] | None:
    """Return Spearman's correlation, ranks taken within each game, with a 95 % bootstrap interval over runs.

    Differences between games play no part. None where all runs of every game tie.
    """
    value = _pooled([pairs[None] for pairs in by_game.values()])[0]
    if not np.isfinite(value):
        return None
    reps = min(reps, MOST_REPS)
    rng = np.random.default_rng(zlib.crc32(b"prediction and score"))
    drawn = [pairs[rng.integers(len(pairs), size=(reps, len(pairs)))] for pairs in by_game.values()]
    values = _pooled(drawn)
    low, high = np.percentile(values[np.isfinite(values)], (2.5, 97.5)).tolist()
    num_runs = sum(len(pairs) for pairs in by_game.values())
    return {"value": float(value), "low": low, "high": high, "num_runs": num_runs, "games": list(by_game)}


def _pooled(samples: Sequence[Float[np.ndarray, "draws runs 2"]]) -> Float[np.ndarray, "draws"]:
    """Return the correlation of ranks that are centred within each game and scaled to its number of runs."""
    x, y = np.concatenate([_centred_ranks(found) for found in samples], axis=2)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=1) / scale)


def _centred_ranks(sample: Float[np.ndarray, "draws runs 2"]) -> Float[np.ndarray, "2 draws runs"]:
    """Return the ranks of both columns among a draw's runs, ties shared, from about -1/2 to 1/2."""
    num_draws, num_runs, _ = sample.shape
    rows = pd.DataFrame(np.moveaxis(sample, 2, 0).reshape(-1, num_runs))
    ranks = rows.rank(axis=1).to_numpy().reshape(2, num_draws, num_runs)
    return np.asarray((ranks - (num_runs + 1) / 2) / num_runs)


def _open_psnr(rows: pd.DataFrame) -> dict[Run, float]:
    """Return each run's mean over the horizon, of its last weights and shortest context."""
    of_run = ["variant", "game", "seed"]
    found = rows[(rows["metric"] == METRIC) & (rows["mode"] == MODE) & rows["context"].notna()]
    found = found[found["env_step"] == found.groupby(of_run, observed=True)["env_step"].transform("max")]
    found = found[found["context"] == found.groupby(of_run, observed=True)["context"].transform("min")]
    ordered = found.sort_values([*of_run, "horizon"])
    means = ordered.groupby(of_run, observed=True)["value"].mean()
    return dict(zip(map(Run._make, means.index), map(float, means), strict=True))


def _normalised(run: Run, score: float) -> float:
    scale = reference(run.game)
    return scale.normalise(score) if scale else score
