"""Every number that the report prints, computed once: `summarise` gives the content of `summary.json`."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from irisflow.statistics import aggregate, permutation
from irisflow.statistics.account import cost_summary, training_summary
from irisflow.statistics.association import prediction_and_score
from irisflow.statistics.baselines import num_superhuman, published_baselines
from irisflow.statistics.caveats import caveats
from irisflow.statistics.coverage import Block, check_belongs, common_block, missing_runs
from irisflow.statistics.efficiency import efficiency_summary
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.statistics.exact import stratified_test
from irisflow.statistics.interactions import interaction_summary
from irisflow.statistics.phases import Timings
from irisflow.statistics.power import seeds_for_power
from irisflow.statistics.provenance import provenance_summary
from irisflow.statistics.random_play import against_random_play
from irisflow.statistics.ranks import rank_summary
from irisflow.statistics.reference import Reference, published, reference
from irisflow.statistics.scores import PROTOCOL, Run, curve_means, run_means, score_matrix
from irisflow.statistics.study import StudyDescription
from irisflow.statistics.world_model import Confusions, MaybeLate, table, world_model_summary

Scores = Float[np.ndarray, "runs games"]
NUM_THRESHOLDS = 121


def summarise(
    study: StudyDescription,
    scores: Sequence[EpisodeScore],
    curves: Sequence[EpisodeScore],
    costs: Sequence[Mapping[str, Any]],
    provenance: Sequence[Mapping[str, Any]],
    *,
    metrics: Mapping[Run, Sequence[Mapping[str, float]]] | None = None,
    timings: Timings | None = None,
    random_play: Sequence[EpisodeScore] = (),
    world_model: pd.DataFrame | Callable[[], pd.DataFrame] | None = None,
    from_elsewhere: Mapping[Run, float] | None = None,
    confusions: Mapping[Run, Confusions] | None = None,
    intervals: MaybeLate = (),
    remarks: Sequence[Mapping[str, str]] = (),
    jobs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the study's results as plain JSON-able data; the order of the inputs does not matter.

    `scores` holds final episodes, `curves` those of evaluations while training (rows of the other split are
    ignored, so the same mixed list may be given twice), `random_play` those of uniformly random actions,
    `world_model` and `confusions` measurements of held-out episodes, `metrics` and `timings` what training wrote down.
    `intervals` belong to some of the measurements, as `interval_records` gives them. A function for `world_model` or
    `intervals` is called late, when most else is worked out.
    `from_elsewhere` has mean raw scores of runs whose episodes are not known, `remarks` warnings for the first page,
    `jobs` what `job_record` tells of each job.
    Raises DataError for scores outside the study and for a variant without any.
    """
    final = sorted(row for row in scores if row.split == "final")
    during = sorted(row for row in curves if row.split == "curve")
    means = {**run_means(final), **(from_elsewhere or {})}
    check_belongs(study, [*final, *during], means)
    ends = {Run(row.variant, row.game, row.seed): row.env_step for row in final}
    block = common_block(study, means)
    normalised_games = tuple(game for game in block.games if reference(game) is not None)
    raw = {
        name: score_matrix(means, name, games=block.games, seeds=block.runs[name]) for name in _names(study)
    }
    normalised = {name: normalised_matrix(raw[name], block, normalised_games) for name in _names(study)}
    curve_records = _curves(study, block, during)
    summary = {
        "study": _study(study),
        "coverage": _coverage(study, means),
        "block": {**_jsonable(block), "normalised_games": list(normalised_games)},
        "protocol": _protocol(final),
        "aggregates": _aggregates(study, normalised),
        "all_available": _all_available(study, means),
        "published": published_baselines(normalised_games, reps=study.bootstrap_reps),
        "num_superhuman": {
            name: num_superhuman(scores) for name, scores in normalised.items() if scores.size
        },
        "comparisons": _comparisons(study, block, raw, normalised),
        "interactions": interaction_summary(study, normalised),
        "random_play": against_random_play(study, means, random_play),
        "improvement_matrix": _improvement_matrix(study, raw),
        "profiles": _profiles(study, normalised),
        "ranks": rank_summary(raw),
        "power": seeds_for_power(raw, study.baseline),
        "curves": curve_records,
        "efficiency": efficiency_summary(
            curve_means(during),
            curve_records["iqm"],
            {name: _compared_runs(name, block) for name in _names(study)},
            metrics or {},
            timings or {},
            curve_records["pretraining_env_steps"],
        ),
        "games": {game: _game(study, game, means, ends) for game in study.games},
        "training": training_summary(metrics or {}),
        "cost": cost_summary(costs, _names(study), timings),
        "provenance": provenance_summary(provenance, jobs),
        "remarks": [dict(remark) for remark in remarks],
        "num_from_elsewhere": len(from_elsewhere or {}),
        "scores_sha256": _sha256([*final, *during, *sorted(random_play)], from_elsewhere or {}),
    }
    measured = world_model() if callable(world_model) else table(()) if world_model is None else world_model
    predictive = prediction_and_score(measured, means, reps=study.bootstrap_reps)
    summary["world_model"] = world_model_summary(study, measured, confusions or {}, intervals)
    summary["prediction_and_score"] = predictive
    return {**summary, "caveats": caveats(study, summary)}


def _sha256(episodes: Sequence[EpisodeScore], from_elsewhere: Mapping[Run, float]) -> str:
    others = "".join(f"{run}: {score!r}\n" for run, score in sorted(from_elsewhere.items()))
    return hashlib.sha256((to_csv(episodes) + others).encode()).hexdigest()


def normalised_matrix(raw: Scores, block: Block, games: Sequence[str]) -> Scores:
    """Return the normalised scores of those games of the block that have reference scores."""
    scales = {game: reference(game) for game in games}
    columns = [
        scale.normalise_runs(raw[:, block.games.index(game)])
        for game, scale in scales.items()
        if scale is not None
    ]
    return np.stack(columns, axis=1) if columns else np.empty((len(raw), 0))


def _compared_runs(name: str, block: Block) -> list[Run]:
    return [Run(name, game, seed) for game in block.games for seed in block.runs[name]]


def _names(study: StudyDescription) -> list[str]:
    return [variant.name for variant in study.ordered_variants]


def _jsonable(block: Block) -> dict[str, Any]:
    runs = {name: list(seeds) for name, seeds in block.runs.items()}
    return {"games": list(block.games), "seeds": list(block.seeds), "runs": runs}


def _study(study: StudyDescription) -> dict[str, Any]:
    return {
        **asdict(study),
        "games": list(study.games),
        "seeds": list(study.seeds),
        "variants": [asdict(variant) for variant in study.ordered_variants],
        "stamp": study.stamp,
    }


def _coverage(study: StudyDescription, means: Mapping[Run, float]) -> dict[str, Any]:
    cells = {
        name: {
            game: [seed for seed in study.seeds_of(name) if Run(name, game, seed) in means]
            for game in study.games
        }
        for name in _names(study)
    }
    missing = [list(run) for run in missing_runs(study, means)]
    planned = {name: len(study.seeds_of(name)) for name in _names(study)}
    return {
        "planned": planned,
        "cells": cells,
        "missing": missing,
        "num_present": len(means),
        "is_complete": not missing,
    }


def _protocol(final: Sequence[EpisodeScore]) -> dict[str, Any]:
    """Return how the final scores were measured, and the spread between the episodes of a run."""
    per_run: dict[Run, list[float]] = {}
    for row in final:
        per_run.setdefault(Run(row.variant, row.game, row.seed), []).append(row.return_raw)
    counts = [len(returns) for returns in per_run.values()]
    errors = [
        float(np.std(returns, ddof=1)) / math.sqrt(len(returns)) / (scale.best - scale.random)
        for run, returns in per_run.items()
        if len(returns) > 1 and (scale := reference(run.game)) is not None
    ]
    if not counts:
        return {}
    columns = (*PROTOCOL, "env_step", "pretraining_env_steps")
    return {
        "least_episodes": min(counts),
        "most_episodes": max(counts),
        "median_episode_error": float(np.median(errors)) if errors else None,
        "num_truncated": sum(row.truncated for row in final),
        "num_episodes": len(final),
        "num_eval_seeds": len({row.eval_seed for row in final}),
        **{column: sorted({getattr(row, column) for row in final}) for column in columns},
    }


def _aggregates(study: StudyDescription, normalised: Mapping[str, Scores]) -> dict[str, Any]:
    """Return variant -> metric -> value, interval, and the wider interval with games resampled too."""
    return {
        name: aggregate_record(scores, name=name, reps=study.bootstrap_reps) if scores.size else {}
        for name, scores in normalised.items()
    }


def _all_available(study: StudyDescription, means: Mapping[Run, float]) -> dict[str, Any]:
    """Return variant -> the IQM over all its runs, whatever others have, and their number; nothing unless some run lacks."""
    if not missing_runs(study, means):
        return {}
    values: dict[str, list[float]] = {name: [] for name in _names(study)}
    for run, score in sorted(means.items()):
        scale = reference(run.game)
        if scale is not None:
            values[run.variant].append(scale.normalise(score))
    return {
        name: {"iqm": aggregate.iqm(np.array(found)[:, None]), "num_runs": len(found)}
        for name, found in values.items()
        if found
    }


def aggregate_record(scores: Scores, *, name: str, reps: int) -> dict[str, dict[str, Any]]:
    """Return metric -> `value, low, high, games_low, games_high` of one variant's normalised scores."""
    seeds = aggregate.aggregates(scores, name=name, reps=reps)
    games = aggregate.aggregates(scores, name=name, reps=reps, should_resample_games=True)
    return {
        metric: {
            **asdict(seeds[metric]),
            "games_low": games[metric].low,
            "games_high": games[metric].high,
            "num_values": scores.size,
        }
        for metric in aggregate.METRICS
    }


def _comparisons(
    study: StudyDescription, block: Block, raw: Mapping[str, Scores], normalised: Mapping[str, Scores]
) -> dict[str, Any]:
    """Return each variant against the baseline; the family of the Holm adjustment is all of them."""
    others = [name for name in _names(study) if name != study.baseline]
    if not block.games or not others:
        return {}
    base = study.baseline
    records = {
        name: _comparison(
            name, base, block, (raw[name], raw[base]), (normalised[name], normalised[base]), study
        )
        for name in others
    }
    adjusted = permutation.holm({name: record["p"] for name, record in records.items()})
    for name, record in records.items():
        record["p_holm"] = adjusted[name]
        record["smallest_p_holm"] = min(1.0, len(others) * record["smallest_p"])
        record["verdict"] = permutation.verdict(record)
    return records


def _comparison(
    name: str,
    baseline: str,
    block: Block,
    raw: tuple[Scores, Scores],
    normalised: tuple[Scores, Scores],
    study: StudyDescription,
) -> dict[str, Any]:
    names, reps = (name, baseline), study.bootstrap_reps
    test = stratified_test(list(zip(raw[0].T, raw[1].T, strict=True)))
    improvement = aggregate.improvement(*raw, names=names, reps=reps)
    per_game = aggregate.improvement_per_game(*raw).tolist()
    record = {
        "improvement": asdict(improvement),
        "cliffs_delta": 2 * improvement.value - 1,
        "per_game": dict(zip(block.games, per_game, strict=True)),
        **asdict(test),
        "iqm_difference": None,
        "p_iqm": None,
    }
    if normalised[0].size:
        record["iqm_difference"] = asdict(aggregate.iqm_difference(*normalised, names=names, reps=reps))
        record["p_iqm"] = permutation.iqm_p(*normalised, names=names)
    return record


def _improvement_matrix(study: StudyDescription, raw: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    reps = study.bootstrap_reps
    return {
        x: {
            y: asdict(aggregate.improvement(raw[x], raw[y], names=(x, y), reps=reps))
            for y in raw
            if y != x and raw[y].size
        }
        for x in raw
    }


def _profiles(study: StudyDescription, normalised: Mapping[str, Scores]) -> dict[str, Any]:
    """Return the thresholds and each variant's share of runs above them."""
    values = np.concatenate([scores.ravel() for scores in normalised.values()])
    if not values.size:
        return {}
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    margin = 0.02 * (high - low)
    thresholds = np.linspace(low - margin, high + margin, NUM_THRESHOLDS)
    return {
        "thresholds": thresholds.tolist(),
        "shares": {name: _profile(study, name, scores, thresholds) for name, scores in normalised.items()},
        "above_one": {name: float((scores > 1).mean()) for name, scores in normalised.items()},
    }


def _profile(
    study: StudyDescription, name: str, scores: Scores, thresholds: Float[np.ndarray, "thresholds"]
) -> list[dict[str, Any]]:
    shares = aggregate.performance_profile(scores, thresholds, name=name, reps=study.bootstrap_reps)
    return [asdict(share) for share in shares]


def _curves(study: StudyDescription, block: Block, during: Sequence[EpisodeScore]) -> dict[str, Any]:
    """Return learning curves per game and run, and the IQM at the steps that every run of the block has."""
    curves = curve_means(during)
    pretraining: dict[str, int] = dict.fromkeys(_names(study), 0)
    for row in during:
        pretraining[row.variant] = max(pretraining[row.variant], row.pretraining_env_steps)
    ratios = {row.frames / row.env_step for row in during if row.env_step}
    return {
        "pretraining_env_steps": pretraining,
        "frames_per_step": ratios.pop() if len(ratios) == 1 else None,
        "games": {
            game: {name: _game_curve(study, curves, name, game) for name in _names(study)}
            for game in study.games
        },
        "iqm": {name: _iqm_curve(study, block, curves, name) for name in _names(study)},
    }


def _game_curve(
    study: StudyDescription, curves: Mapping[Run, Mapping[int, float]], name: str, game: str
) -> dict[str, Any]:
    runs = {
        seed: curves[Run(name, game, seed)]
        for seed in study.seeds_of(name)
        if curves.get(Run(name, game, seed))
    }
    steps = _common_steps(list(runs.values()))
    values = np.array([[run[step] for step in steps] for run in runs.values()]).reshape(len(runs), len(steps))
    return {
        "seeds": {
            str(seed): [[step, value] for step, value in sorted(run.items())] for seed, run in runs.items()
        },
        "steps": steps,
        "mean": values.mean(axis=0).tolist() if steps else [],
    }


def _common_steps(runs: Sequence[Mapping[int, float]]) -> list[int]:
    """Return the evaluation steps that every run has; nothing is interpolated."""
    return sorted(set.intersection(*(set(run) for run in runs))) if runs else []


def _iqm_curve(
    study: StudyDescription, block: Block, curves: Mapping[Run, Mapping[int, float]], name: str
) -> list[dict[str, Any]]:
    scales = {game: scale for game in block.games if (scale := reference(game)) is not None}
    runs = {
        (game, seed): curves.get(Run(name, game, seed), {}) for game in scales for seed in block.runs[name]
    }
    steps = _common_steps(list(runs.values()))
    if not steps:
        return []
    scores = np.array(
        [
            [[scale.normalise(runs[game, seed][step]) for step in steps] for game, scale in scales.items()]
            for seed in block.runs[name]
        ]
    )
    points = aggregate.iqm_curve(scores, name=name, reps=study.bootstrap_reps)
    return [{"env_step": step, **asdict(point)} for step, point in zip(steps, points, strict=True)]


def _game(
    study: StudyDescription, game: str, means: Mapping[Run, float], ends: Mapping[Run, int]
) -> dict[str, Any]:
    """Return one game's row: reference scores, IRIS's published mean, and each variant's runs."""
    scale = reference(game)
    iris = published("IRIS").get(game)
    return {
        "reference": asdict(scale) if scale else None,
        "published_iris": float(iris.mean()) if iris is not None else None,
        "variants": {name: _game_variant(study, game, name, means, scale, ends) for name in _names(study)},
    }


def _game_variant(
    study: StudyDescription,
    game: str,
    name: str,
    means: Mapping[Run, float],
    scale: Reference | None,
    ends: Mapping[Run, int],
) -> dict[str, Any]:
    seeds = {
        seed: means[Run(name, game, seed)] for seed in study.seeds_of(name) if Run(name, game, seed) in means
    }
    values = list(seeds.values())
    known = [ends[run] for seed in seeds if (run := Run(name, game, seed)) in ends]
    mean = float(np.mean(values)) if values else None
    return {
        "seeds": {str(seed): value for seed, value in seeds.items()},
        "env_step": max(known, default=None),
        "mean": mean,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "normalised": scale.normalise(mean) if scale and mean is not None else None,
    }
