"""95 % intervals of what is measured of world models on held-out episodes: over seeds, and over stretches of the recording.

All runs of a game are measured on one recording, from the same starts: a start that is hard is hard for every seed. Seeds
and stretches are therefore *crossed*, not nested, and are resampled independently of each other (Owen 2007, "The pigeonhole
bootstrap"): a resample draws seeds, and it draws stretches once for all of them. Stretches drawn for each run by itself
would average what a start's difficulty does over the seeds, so that five seeds would look like five recordings. What is
left when seeds and stretches are accounted for counts up to three times: where that is all there is, the interval is too
wide. Stretches of consecutive steps stand for starts and frames because neighbours are alike (evaluation/stretches.py).

The statistic is the number that is drawn: the weighted mean over the drawn stretches of each drawn run, then the mean over
runs, then over games, which are fixed. With one run only stretches are drawn: the interval is then of what this run would
get on more such play and says nothing about other seeds. With few seeds or stretches the interval is too narrow, as
everywhere in the report (docs/report.md has numbers). It says nothing about other episodes where the recording is one.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from irisflow.statistics.bootstrap import PERCENTILES
from irisflow.statistics.scores import Run
from irisflow.statistics.stretches import Key, RunStretches, read_stretches
from irisflow.statistics.study import StudyDescription

DIGITS = 6
MOST_REPS = 1000  # each is of thousands of numbers; more would move an end by a twentieth of the width
FEWEST_STRETCHES = 2
Resampled = dict[Key, Float[np.ndarray, "reps horizon"]]
Record = dict[str, Any]


def read_intervals(study: StudyDescription, files: Mapping[Run, Path]) -> list[Record]:
    """Return the intervals of the runs whose files these are. Raises DataError as `read_stretches` does."""
    return interval_records(study, {run: read_stretches(files[run]) for run in sorted(files)})


def interval_records(study: StudyDescription, stretches: Mapping[Run, RunStretches]) -> list[Record]:
    """Return a record for each variant, metric and mode, of each game and of the mean over all games that variants share.

    Variants are in the order of their names, whichever is the baseline. `games` has the games, `low`, `high` and
    `num_stretches` a value for each horizon: None where fewer than two stretches say anything. Of several games
    `num_stretches` and `num_episodes` are those of the game that has least. There is none where the runs of a game were
    not measured alike, or after different numbers of steps.
    """
    names = [variant.name for variant in study.ordered_variants]
    cells = {(run.variant, run.game) for run in stretches}
    shared = shared_games(
        study.games, [name for name in names if any(name == own for own, _ in cells)], cells
    )
    return [record for name in sorted(names) for record in _of_variant(study, name, stretches, shared)]


def shared_games(
    games: Sequence[str], variants: Sequence[str], cells: set[tuple[str, str]]
) -> tuple[str, ...]:
    """Return the games in which all variants were measured; where there is none, those of the first variant.

    `cells` has the variants and games that were measured, `variants` those that were anywhere.
    """
    shared = tuple(game for game in games if all((name, game) in cells for name in variants))
    return shared or tuple(game for game in games if (variants[0], game) in cells)


def resampled(runs: Sequence[RunStretches], *, name: str, reps: int) -> Resampled:
    """Return the statistic of a game's runs in each resample; NaN where nothing that was drawn says anything.

    The generator is seeded from `name`, the game: an interval depends neither on which other variants there are nor
    on their order, and the same starts are drawn for all variants.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    num_runs, num_stretches = len(runs), runs[0].num_stretches
    of_stretches = rng.multinomial(
        num_stretches, np.full(num_stretches, 1 / num_stretches), size=reps
    ).astype(np.float32)
    of_runs = rng.multinomial(num_runs, np.full(num_runs, 1 / num_runs), size=reps).astype(np.float32)
    keys = _common_keys(runs)
    shares = {
        metric: _shares(of_stretches, of_runs, [run.weights[metric] for run in runs])
        for metric in dict.fromkeys(metric for metric, _ in keys)
    }
    return {
        key: np.einsum("brh,brh->bh", _drawn(of_stretches, [run.sums[key] for run in runs]), shares[key[0]])
        for key in keys
    }


def _common_keys(runs: Sequence[RunStretches]) -> list[Key]:
    """Return what was measured of all runs, over the same horizon: LPIPS may not have been, on another machine."""
    shapes = [{key: array.shape for key, array in run.sums.items()} for run in runs]
    return [key for key, shape in shapes[0].items() if all(other.get(key) == shape for other in shapes)]


def _drawn(
    of_stretches: Float[np.ndarray, "reps stretches"],
    tables: Sequence[Float[np.ndarray, "stretches horizon"]],
) -> Float[np.ndarray, "reps runs horizon"]:
    """Return the sums over drawn stretches, the same for all runs."""
    beside: np.ndarray = of_stretches @ np.concatenate(tables, axis=1)
    return beside.reshape(len(of_stretches), len(tables), -1)


def _shares(
    of_stretches: Float[np.ndarray, "reps stretches"],
    of_runs: Float[np.ndarray, "reps runs"],
    tables: Sequence[Float[np.ndarray, "stretches horizon"]],
) -> Float[np.ndarray, "reps runs horizon"]:
    """Return what each drawn run's sum is multiplied by: how often it was drawn, by its weight, by the runs that count."""
    weights = _drawn(of_stretches, tables)
    says = weights > 0
    counted = of_runs[:, :, None] * says
    with np.errstate(invalid="ignore"):
        return np.asarray(counted / np.where(says, weights, 1) / counted.sum(axis=1, keepdims=True))


def _of_variant(
    study: StudyDescription, name: str, stretches: Mapping[Run, RunStretches], shared: Sequence[str]
) -> Iterator[Record]:
    """Yield the records of each game, then those of the mean over the shared games."""
    total: Resampled = {}
    parts: dict[Key, list[Record]] = {}
    for game in study.games:
        runs = [own for run, own in sorted(stretches.items()) if (run.variant, run.game) == (name, game)]
        if not runs or not _are_alike(runs):
            continue
        values = resampled(runs, name=game, reps=min(MOST_REPS, study.bootstrap_reps))
        records = [_about(name, game, runs, key) for key in values]
        yield from _with_ends(records, values)
        for record, (key, found) in zip(records, values.items(), strict=True):
            if game in shared:
                parts.setdefault(key, []).append(record)
                total[key] = total[key] + found if _has_shape(total, key, found) else found
    if len(shared) > 1:
        means = {key: total[key] / len(found) for key, found in parts.items() if _can_be_averaged(found)}
        yield from _with_ends([_about_all(parts[key]) for key in means], means)


def _are_alike(runs: Sequence[RunStretches]) -> bool:
    kinds = [(run.env_step, run.context, run.num_stretches) for run in runs]
    return all(kind == kinds[0] for kind in kinds)


def _has_shape(total: Resampled, key: Key, found: Float[np.ndarray, "reps horizon"]) -> bool:
    return key in total and total[key].shape == found.shape


def _can_be_averaged(records: Sequence[Record]) -> bool:
    """Return whether the records of several games are of the same moment, context and horizon."""
    kinds = [(record["env_step"], record["context"], len(record["num_stretches"])) for record in records]
    return all(kind == kinds[0] for kind in kinds)


def _about(name: str, game: str, runs: Sequence[RunStretches], key: Key) -> Record:
    """Return what an interval is of and over. The stretches that say anything are those of the run that has least."""
    metric, mode = key
    return {
        "variant": name,
        "games": [game],
        "env_step": runs[0].env_step,
        "metric": metric,
        "mode": mode,
        "context": runs[0].context if mode else None,
        "num_seeds": len(runs),
        "num_runs": len(runs),
        "num_episodes": min(run.num_episodes for run in runs),
        "num_stretches": np.min([(run.weights[metric] > 0).sum(axis=0) for run in runs], axis=0).tolist(),
    }


def _about_all(records: Sequence[Record]) -> Record:
    """Return the same of the mean over games."""
    least = {key: min(record[key] for record in records) for key in ("num_seeds", "num_episodes")}
    return {
        **records[0],
        **least,
        "num_runs": sum(record["num_runs"] for record in records),
        "games": [game for record in records for game in record["games"]],
        "num_stretches": np.min([record["num_stretches"] for record in records], axis=0).tolist(),
    }


def _with_ends(records: Sequence[Record], values: Resampled) -> Iterator[Record]:
    """Yield the records with the ends of their intervals."""
    if not records:
        return
    ends = _percentiles(np.concatenate(list(values.values()), axis=1))
    places = np.cumsum([found.shape[1] for found in values.values()])[:-1]
    for record, pair in zip(records, np.split(ends, places, axis=1), strict=True):
        is_told = np.array(record["num_stretches"]) >= FEWEST_STRETCHES
        low, high = (
            [_rounded(end) if told else None for end, told in zip(row, is_told, strict=True)] for row in pair
        )
        yield {**record, "low": low, "high": high}


def _percentiles(values: Float[np.ndarray, "reps numbers"]) -> Float[np.ndarray, "2 numbers"]:
    """Return the ends of each number's interval, over the resamples in which there is one."""
    ends = np.percentile(np.ascontiguousarray(values.T), PERCENTILES, axis=1)
    gaps = np.isnan(ends[0]) & ~np.isnan(values).all(axis=0)
    if gaps.any():
        ends[:, gaps] = np.nanpercentile(values[:, gaps], PERCENTILES, axis=0)
    return np.asarray(ends)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.{DIGITS}g}")
