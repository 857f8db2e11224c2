"""Does an agent beat random play? Every variant's runs against those of uniformly random actions, game by game.

Scores are raw: ranks need no normalisation. Random play takes no part in the other comparisons.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from irisflow.statistics.aggregate import Estimate
from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.exact import stratified_improvement, stratified_test
from irisflow.statistics.permutation import holm, verdict
from irisflow.statistics.scores import Run, run_means
from irisflow.statistics.study import StudyDescription

Runs = Float[np.ndarray, "runs"]
Cell = tuple[str, str]
Key = TypeVar("Key", str, Cell)


def against_random_play(
    study: StudyDescription, means: Mapping[Run, float], episodes: Sequence[EpisodeScore]
) -> dict[str, Any]:
    """Return random play's runs and each variant's comparison with them, over all games and for each game.

    `means` are the agents' runs, `episodes` those of random play; without any the result is empty. Two families
    are Holm-adjusted, each on its own: the variants over all games, and variants x games.
    """
    if not episodes:
        return {}
    random = run_means(episodes)
    levels = {game: _runs(random, game) for game in study.games if _runs(random, game).size}
    agents = {
        (name, game): runs
        for name in (variant.name for variant in study.ordered_variants)
        for game in levels
        if (runs := _runs(means, game, name)).size
    }
    per_run = np.unique([[row.game, str(row.seed)] for row in episodes], axis=0, return_counts=True)[1]
    return {
        "least_episodes": int(per_run.min()),
        "most_episodes": int(per_run.max()),
        "games": {game: _level(random, game) for game in levels},
        "variants": _adjusted(_over_games(study, agents, levels)),
        "cells": _nested(_adjusted(_game_by_game(study, agents, levels))),
    }


def _runs(means: Mapping[Run, float], game: str, variant: str | None = None) -> Runs:
    """Return the scores of all runs of a game, of one variant if it is named, in the order of the seeds."""
    return np.array(
        [means[run] for run in sorted(means) if run.game == game and variant in (None, run.variant)]
    )


def _level(random: Mapping[Run, float], game: str) -> dict[str, Any]:
    seeds = {str(run.seed): value for run, value in sorted(random.items()) if run.game == game}
    values = list(seeds.values())
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"seeds": seeds, "mean": float(np.mean(values)), "std": std}


def _over_games(
    study: StudyDescription, agents: Mapping[Cell, Runs], levels: Mapping[str, Runs]
) -> dict[str, dict[str, Any]]:
    """Return each variant's comparison over all games in which it has runs."""
    records = {}
    for variant in study.ordered_variants:
        games = [game for game in levels if (variant.name, game) in agents]
        if games:
            pairs = [(agents[variant.name, game], levels[game]) for game in games]
            records[variant.name] = {"games": games, **_tested(pairs)}
    return records


def _game_by_game(
    study: StudyDescription, agents: Mapping[Cell, Runs], levels: Mapping[str, Runs]
) -> dict[Cell, dict[str, Any]]:
    return {
        (name, game): {
            "num_runs": len(runs),
            "num_random_runs": len(levels[game]),
            "mean": float(runs.mean()),
            "random_mean": float(levels[game].mean()),
            "difference": asdict(_difference(runs, levels[game], f"{name}\n{game}", study.bootstrap_reps)),
            **_tested([(runs, levels[game])]),
        }
        for (name, game), runs in agents.items()
    }


def _tested(pairs: Sequence[tuple[Runs, Runs]]) -> dict[str, Any]:
    return {"improvement": {"value": stratified_improvement(pairs)}, **asdict(stratified_test(pairs))}


def _difference(x: Runs, y: Runs, name: str, reps: int) -> Estimate:
    """Return mean(X) - mean(Y) with its 95 % percentile bootstrap interval; none for a single run."""
    value = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return Estimate(value)
    rng = np.random.default_rng(zlib.crc32(f"random play\n{name}".encode()))
    left, right = (runs[rng.integers(len(runs), size=(reps, len(runs)))].mean(axis=1) for runs in (x, y))
    low, high = np.percentile(left - right, (2.5, 97.5)).tolist()
    return Estimate(value, low, high)


def _adjusted(records: dict[Key, dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Return the records of one family with Holm's adjustment and a verdict."""
    adjusted = holm({str(key): record["p"] for key, record in records.items()})
    for key, record in records.items():
        record["p_holm"] = adjusted[str(key)]
        record["smallest_p_holm"] = min(1.0, len(records) * record["smallest_p"])
        record["verdict"] = verdict(record)
    return records


def _nested(records: Mapping[Cell, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return game -> variant -> record."""
    nested: dict[str, dict[str, Any]] = {}
    for (name, game), record in records.items():
        nested.setdefault(game, {})[name] = record
    return nested
