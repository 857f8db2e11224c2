"""Do two changes together do more, or less, than the sum of what each does alone?

A variant combines two others of its study where what it writes otherwise than the baseline is exactly what they do, with the
same values, and they write no key in common. With the baseline these are the four cells of a 2 x 2 design.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from irisflow.statistics.aggregate import Estimate, sample_iqms
from irisflow.statistics.bootstrap import interval, seeded
from irisflow.statistics.configuration import Change
from irisflow.statistics.study import StudyDescription, VariantDescription

LABELS = ("tokenizer.name", "world_model.name", "training.control.name")  # what a composed part is called
Pair = tuple[str, str]
Scores = Float[np.ndarray, "runs games"]
Samples = Float[np.ndarray, "draws runs games"]
Values = Float[np.ndarray, "draws"]


def interaction_summary(study: StudyDescription, normalised: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Return a grid for each two axes of which the study combines variants; none where nothing was compared.

    A grid has `axes`, its `rows` and `columns` (variants, the baseline first), `cells` (row, column and the variant that
    makes both changes) and `contrasts`, one for each of these.
    """
    if not any(scores.size for scores in normalised.values()):
        return []
    axis_of = {variant.name: variant.axis for variant in study.ordered_variants}
    grids: dict[tuple[str, ...], dict[Pair, str]] = {}
    for both, (first, second) in combined(study).items():
        axes = (axis_of[first], axis_of[second])
        key = axes if axes[0] != axes[1] else (*axes, first, second)  # of one axis: a grid for each two
        grids.setdefault(key, {})[first, second] = both
    return [_grid(study, normalised, key[:2], cells) for key, cells in grids.items()]


def combined(study: StudyDescription) -> dict[str, Pair]:
    """Return variant -> the two that it combines, both in the study's order. A combination is no part of others."""
    changes = {
        variant.name: found
        for variant in study.ordered_variants
        if variant.name != study.baseline and (found := _changes(variant))
    }
    candidates = [
        (both, pair)
        for both, made in changes.items()
        for pair in combinations(changes, 2)
        if both not in pair and _makes_both(made, *(changes[name] for name in pair))
    ]
    made_of_two = {both for both, _ in candidates}
    return {both: pair for both, pair in candidates if made_of_two.isdisjoint(pair)}


def _changes(variant: VariantDescription) -> frozenset[Change]:
    return frozenset(change for change in variant.written_changes if change[0] not in LABELS)


def _makes_both(made: frozenset[Change], first: frozenset[Change], second: frozenset[Change]) -> bool:
    keys = [{key for key, _, _ in changes} for changes in (first, second)]
    return made == first | second and keys[0].isdisjoint(keys[1])


def _grid(
    study: StudyDescription,
    normalised: Mapping[str, Scores],
    axes: tuple[str, ...],
    cells: Mapping[Pair, str],
) -> dict[str, Any]:
    order = [variant.name for variant in study.ordered_variants]
    rows, columns = (
        [study.baseline, *sorted({pair[place] for pair in cells}, key=order.index)] for place in (0, 1)
    )
    found = sorted(cells.items(), key=lambda cell: (rows.index(cell[0][0]), columns.index(cell[0][1])))
    return {
        "axes": list(axes),
        "rows": rows,
        "columns": columns,
        "cells": [{"row": row, "column": column, "variant": both} for (row, column), both in found],
        "contrasts": [_contrast(study, normalised, pair, both) for pair, both in found],
    }


def _contrast(
    study: StudyDescription, normalised: Mapping[str, Scores], pair: Pair, both: str
) -> dict[str, Any]:
    """Return IQM(both) - IQM(first) - IQM(second) + IQM(baseline), and the same of means, each with its interval."""
    # In another order of the two the same draws would fall to other arms.
    names = (both, *sorted(pair), study.baseline)
    arms = [normalised[name] for name in names]
    return {
        "first": pair[0],
        "second": pair[1],
        "both": both,
        "iqm": asdict(contrast(arms, sample_iqms, names=names, reps=study.bootstrap_reps)),
        "mean": asdict(contrast(arms, _sample_means, names=names, reps=study.bootstrap_reps)),
        "least_runs": min(len(scores) for scores in arms),
        "num_games": arms[0].shape[1],
    }


def contrast(
    arms: list[Scores], statistic: Callable[[Samples], Values], *, names: tuple[str, ...], reps: int
) -> Estimate:
    """Return a statistic of the first and the last arm minus that of the two between, with its interval.

    The runs of every arm are resampled on their own, within each game; with one run there is no interval.
    """

    def contrasts(*samples: Samples) -> Float[np.ndarray, "draws 1"]:
        both, first, second, neither = (statistic(sample) for sample in samples)
        return np.asarray((both - first - second + neither)[:, None])

    value = float(contrasts(*(scores[None] for scores in arms))[0, 0])
    if min(map(len, arms)) < 2:
        return Estimate(value)
    with seeded("interaction", *names):
        low, high = interval(contrasts, *arms, reps=reps)[:, 0].tolist()
    return Estimate(value, low, high)


def _sample_means(samples: Samples) -> Values:
    return np.asarray(samples.mean(axis=(1, 2)))
