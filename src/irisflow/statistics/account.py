"""What a study cost, where it came from, and how its losses fell: records of the stages, gathered."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irisflow.statistics.inputs import COMPONENTS
from irisflow.statistics.phases import Timings, phase_rows
from irisflow.statistics.scores import Run

STAGES = (
    "collect", "pretrain_tokenizer", "pretrain_world_model", "train_agent", "evaluate", "play_random", "report",
)  # fmt: skip
SHARED = "shared"
Record = Mapping[str, Any]


def cost_summary(
    costs: Sequence[Record], variants: Sequence[str], timings: Timings | None = None
) -> dict[str, Any]:
    """Return one row per stage and variant (`shared` where a job belongs to none), totals, and rows of training's phases.

    Seconds and steps are sums over jobs, memory the largest.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for cost in sorted(costs, key=canonical):
        groups.setdefault((str(cost["stage"]), str(cost["variant"] or SHARED)), []).append(cost)
    owners = [SHARED, *variants]
    ordered = sorted(groups, key=lambda key: (stage_order(key[0]), _position(key[1], owners)))
    rows = [_cost_row(stage, variant, groups[stage, variant]) for stage, variant in ordered]
    trained = {row["variant"]: row["wall_s"] for row in rows if row["stage"] == "train_agent"}
    return {
        "rows": rows,
        "phases": phase_rows(timings or {}, trained, variants),
        "wall_s": sum(row["wall_s"] for row in rows),
        "wall_s_by_stage": _totals(rows, "stage"),
        "wall_s_by_variant": _totals(rows, "variant"),
    }


def stage_order(stage: str) -> tuple[int, str]:
    """Return the place of a stage in the pipeline; stages of another name come last, by name."""
    name = stage.replace("-", "_")
    return _position(name, STAGES)


def _position(name: str, names: Sequence[str]) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def _cost_row(stage: str, variant: str, jobs: Sequence[Record]) -> dict[str, Any]:
    parameters = [job["parameters"] for job in jobs if job["parameters"]]
    return {
        "stage": stage,
        "variant": variant,
        "num_jobs": len(jobs),
        "wall_s": float(sum(job["wall_s"] for job in jobs)),
        "longest_s": float(max(job["wall_s"] for job in jobs)),
        "env_steps": sum(job["env_steps"] for job in jobs),
        "num_updates": {
            part: sum(int(job["num_updates"].get(part) or 0) for job in jobs) for part in COMPONENTS
        },
        "peak_rss_mb": float(max(job["peak_rss_mb"] for job in jobs)),
        "devices": sorted({str(job["device"]) for job in jobs}),
        "parameters": {part: max(int(found.get(part) or 0) for found in parameters) for part in COMPONENTS}
        if parameters
        else None,
    }


def _totals(rows: Iterable[Record], key: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for row in rows:
        totals[row[key]] = totals.get(row[key], 0.0) + row["wall_s"]
    return totals


def canonical(record: Any) -> str:
    """Return a record as text by which records are sorted, and told from each other."""
    return json.dumps(record, sort_keys=True)


def training_summary(metrics: Mapping[Run, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return part -> variant -> run -> `[env_steps, value]` points of the total loss, the key `PART/train/total`."""
    losses: dict[str, Any] = {}
    for run, epochs in sorted(metrics.items()):
        for part in COMPONENTS:
            points = [
                [epoch["env_steps"], epoch[key]]
                for epoch in epochs
                if (key := f"{part}/train/total") in epoch
            ]
            if points:
                runs = losses.setdefault(part.replace("_", " "), {}).setdefault(run.variant, {})
                runs[f"{run.game}, seed {run.seed}"] = points
    return dict(sorted(losses.items()))
