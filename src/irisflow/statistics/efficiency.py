"""What a score takes: seconds and updates of training at each evaluation, and the steps until fixed scores are reached."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from irisflow.statistics.inputs import COMPONENTS
from irisflow.statistics.phases import Epoch, Timings
from irisflow.statistics.reference import reference
from irisflow.statistics.scores import Run

TARGETS = (0.1, 0.25, 0.5, 1.0)  # normalised scores
COUNTED = ("collect", *COMPONENTS)  # phases: evaluation and checkpoints are no training
Curve = Mapping[int, float]  # env_step -> mean raw score
Metrics = Mapping[Run, Sequence[Epoch]]


def efficiency_summary(
    curves: Mapping[Run, Curve],
    iqm: Mapping[str, Sequence[Mapping[str, Any]]],
    runs: Mapping[str, Sequence[Run]],
    metrics: Metrics,
    timings: Timings,
    pretraining: Mapping[str, int],
) -> dict[str, Any]:
    """Return `spent` (variant -> the points of its IQM curve with `seconds` and `updates`) and `targets` (variant -> rows).

    `runs` are those of the comparison, by variant; `pretraining` gives the recorded steps that its curves count too.
    Seconds and updates are medians over these runs; a point which one of them has no timings for is left out.
    """
    spent = {
        name: [
            {**point, **found}
            for point in points
            if (found := _median_spent(runs[name], point["env_step"] - pretraining[name], metrics, timings))
        ]
        for name, points in iqm.items()
    }
    targets = {name: [_target(curves, found, target) for target in TARGETS] for name, found in runs.items()}
    return {"spent": spent, "targets": {name: rows for name, rows in targets.items() if rows[0]["num_runs"]}}


def _median_spent(
    runs: Iterable[Run], env_steps: int, metrics: Metrics, timings: Timings
) -> dict[str, float]:
    """Return the medians of what training had taken when the agents had made so many steps of their own, or nothing."""
    found = [_spent(env_steps, metrics.get(run, ()), timings.get(run, ())) for run in runs]
    known = [spent for spent in found if spent]
    if not found or len(known) < len(found):
        return {}
    seconds, updates = np.median(np.array(known), axis=0).tolist()
    return {"seconds": seconds, "updates": updates}


def _spent(env_steps: int, metrics: Iterable[Epoch], timings: Iterable[Epoch]) -> tuple[float, float] | None:
    """Return one run's seconds and optimizer updates in all epochs up to a step; None where an epoch has no timings."""
    until = {epoch["epoch"] for epoch in metrics if epoch["env_steps"] <= env_steps}
    timed = [epoch for epoch in timings if epoch["epoch"] in until and "seconds/collect" in epoch]
    if not until or len(timed) < len(until):
        return None
    seconds = sum(epoch.get(f"seconds/{phase}", 0.0) for epoch in timed for phase in COUNTED)
    updates = sum(
        epoch.get(f"updates_per_s/{phase}", 0.0) * epoch.get(f"seconds/{phase}", 0.0)
        for epoch in timed
        for phase in COMPONENTS
    )
    return float(seconds), float(updates)


def _target(curves: Mapping[Run, Curve], runs: Iterable[Run], target: float) -> dict[str, Any]:
    """Return how many of the runs reached a normalised score, and after how many steps in the median.

    `median_step` is None where at most half of the runs got there: then all that is known is `last_step`, the step of the
    last evaluation, and that the median is greater.
    """
    followed = {run: curves[run] for run in runs if curves.get(run) and reference(run.game)}
    reached = [_first_step(run, curve, target) for run, curve in followed.items()]
    ordered = sorted(step for step in reached if step is not None)
    middle = len(reached) // 2
    return {
        "target": target,
        "num_runs": len(reached),
        "num_reached": len(ordered),
        "median_step": ordered[middle] if middle < len(ordered) else None,
        "last_step": min((max(curve) for curve in followed.values()), default=0),
    }


def _first_step(run: Run, curve: Curve, target: float) -> int | None:
    """Return the first evaluation at which a run's mean score was at least the target, None if there was none."""
    scale = reference(run.game)
    assert scale is not None
    return min((step for step, score in curve.items() if scale.normalise(score) >= target), default=None)
