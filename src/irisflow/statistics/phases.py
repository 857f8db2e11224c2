"""Where the time of training went: what its phases took, gathered over epochs and runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irisflow.statistics.inputs import COMPONENTS
from irisflow.statistics.scores import Run

PHASES = ("collect", *COMPONENTS, "evaluate", "checkpoint")
OTHER = "other"
MEANS = ("updates_per_s", "steps_per_s", "frames_per_s", "cpu_utilisation", "gpu_utilisation")
LARGEST = ("peak_rss_mb", "cuda_peak_mb")
Epoch = Mapping[str, float]
Timings = Mapping[Run, Sequence[Epoch]]


def phase_rows(
    timings: Timings, wall_s: Mapping[str, float], variants: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row per variant and phase of training, from the rows of the runs' `timings.jsonl`.

    Seconds are sums over epochs and runs; rates and utilisations are means over the seconds in which they were measured,
    memory is the largest, None what was measured nowhere. `wall_s`, seconds of all training jobs by variant, gives the
    phase `other`: what lies outside of phases.
    """
    rows = []
    for variant in variants:
        runs = [epochs for run, epochs in sorted(timings.items()) if run.variant == variant]
        epochs = [epoch for run in runs for epoch in run]
        phases = [_row(variant, phase, len(runs), epochs) for phase in PHASES if _seconds(epochs, phase)]
        rest = wall_s.get(variant, 0.0) - sum(row["seconds"] for row in phases)
        if phases and rest > 0:
            phases.append({**_row(variant, OTHER, len(runs), ()), "seconds": rest})
        total = sum(row["seconds"] for row in phases)
        rows += [{**row, "share": row["seconds"] / total} for row in phases]
    return rows


def _row(variant: str, phase: str, num_runs: int, epochs: Sequence[Epoch]) -> dict[str, Any]:
    return {
        "variant": variant,
        "phase": phase,
        "num_runs": num_runs,
        "seconds": _seconds(epochs, phase),
        **{name: _mean(name, phase, epochs) for name in MEANS},
        **{name: max(_found(f"{name}/{phase}", epochs), default=None) for name in LARGEST},
    }


def _seconds(epochs: Iterable[Epoch], phase: str) -> float:
    return float(sum(_found(f"seconds/{phase}", epochs)))


def _found(key: str, epochs: Iterable[Epoch]) -> list[float]:
    return [epoch[key] for epoch in epochs if key in epoch]


def _mean(name: str, phase: str, epochs: Iterable[Epoch]) -> float | None:
    """Return the mean weighted by seconds: of a rate, that is all the work over all the time."""
    measured = [epoch for epoch in epochs if f"{name}/{phase}" in epoch and epoch.get(f"seconds/{phase}")]
    seconds = _seconds(measured, phase)
    weighted = sum(epoch[f"{name}/{phase}"] * epoch[f"seconds/{phase}"] for epoch in measured)
    return weighted / seconds if seconds else None
