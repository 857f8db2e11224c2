"""What a study cost, where it came from, and how its losses fell: records of the stages, gathered."""

import hashlib
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
    for cost in sorted(costs, key=_canonical):
        groups.setdefault((str(cost["stage"]), str(cost["variant"] or SHARED)), []).append(cost)
    owners = [SHARED, *variants]
    ordered = sorted(groups, key=lambda key: (stage_order(key[0]), _position(key[1], owners)))
    rows = [_cost_row(stage, variant, groups[stage, variant]) for stage, variant in ordered]
    trained = {row["variant"]: row["wall_s"] for row in rows if row["stage"] == "train_agent"}
    return {
        "rows": rows,
        "phases": phase_rows(timings or {}, trained, variants),
        "resumes": _resumes(costs),
        "wall_s": sum(row["wall_s"] for row in rows),
        "wall_s_by_stage": _totals(rows, "stage"),
        "wall_s_by_variant": _totals(rows, "variant"),
    }


def _resumes(costs: Sequence[Record]) -> dict[str, Any]:
    """Return how many trainings counted their resumes, and `runs`: those that were stopped and went on, how often."""
    counted = [cost for cost in costs if cost.get("num_resumes") is not None]
    keys = ("variant", "game", "seed", "num_resumes")
    runs = [{key: cost[key] for key in keys} for cost in counted if cost["num_resumes"]]
    return {"num_counted": len(counted), "runs": sorted(runs, key=_canonical)}


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


def provenance_summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return the distinct commits, versions, machines, seeds and commands of all jobs; all input hashes."""
    ordered = sorted(records, key=_canonical)
    stages = sorted({str(record["stage"]) for record in ordered}, key=stage_order)
    inputs = {str(path): str(digest) for record in ordered for path, digest in record["inputs"].items()}
    return {
        "num_jobs": len(ordered),
        "commits": _distinct(record["commit"] or "none" for record in ordered),
        "branches": _distinct(record["branch"] or "none" for record in ordered),
        "is_dirty": any(record["dirty"] for record in ordered),
        "diffs": _distinct(record["diff_sha256"] for record in ordered if record.get("diff_sha256")),
        "cartridges": _merged(record.get("cartridges", {}) for record in ordered),
        "versions": _merged(record["versions"] for record in ordered),
        "hardware": _merged(record["hardware"] for record in ordered),
        "num_machines": len({_canonical(record["hardware"]) for record in ordered}),
        "computing": _merged(record["computing"] for record in ordered),
        "seeds": _merged(record["seeds"] for record in ordered),
        "commands": _distinct(_command(record["command"]) for record in ordered if record["command"]),
        "digests": {
            stage: _distinct(record["digest"] for record in ordered if record["stage"] == stage)
            for stage in stages
        },
        "inputs": dict(sorted(inputs.items())),
        "inputs_sha256": hashlib.sha256(_canonical(inputs).encode()).hexdigest(),
    }


def _command(command: str | Sequence[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


def _merged(records: Iterable[Record]) -> dict[str, list[str]]:
    """Return key -> the distinct values that the records have for it."""
    values: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.items():
            values.setdefault(str(key), set()).add(_plain(value))
    return {key: _distinct(found) for key, found in sorted(values.items())}


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _distinct(values: Iterable[Any]) -> list[str]:
    """Return the values as text, each once, sorted; numbers by size."""
    return sorted(
        {str(value) for value in values}, key=lambda text: (len(text) if text.isdigit() else 99, text)
    )


def _canonical(record: Any) -> str:
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
