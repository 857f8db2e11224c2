"""Where a study's numbers come from: what all jobs say together, and each of them alone."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irisflow.statistics.account import Record, canonical, stage_order

# What many jobs have in common: it is told once, and each job has its number.
ENVIRONMENT = (
    "commit", "branch", "dirty", "diff_sha256", "diff_bytes", "diff_file", "lock_sha256", "versions", "hardware",
    "computing",
)  # fmt: skip
STARTS = ("num_starts", "num_resumes", "num_interrupted", "num_died")
PER_JOB = ("environments", "jobs")  # what `provenance_summary` tells of each job alone


def job_record(
    folder: str, cost: Record, source: Record, *, outputs: Mapping[str, str], about: Record
) -> dict[str, Any]:
    """Return all that is known of where one job's results come from.

    `folder` is where they lie, `outputs` are their sha256 by name, `about` is what their manifest says. Steps
    are the job's own; those of recordings that an agent stands on come before them.
    """
    return {
        "folder": folder,
        **{key: cost[key] for key in ("stage", "variant", "game", "seed", "env_steps", "num_updates")},
        "pretraining_env_steps": about.get("pretraining_env_steps"),
        **{key: cost.get(key) for key in STARTS},
        **{key: source[key] for key in ("digest", "seeds", "command", "inputs")},
        **{key: source[key] for key in ("cartridges", "initial_weights") if key in source},
        "config_sha256": outputs.get("params.yaml"),
        "outputs": dict(outputs),
        "environment": {key: source.get(key) for key in ENVIRONMENT},
    }


def provenance_summary(records: Sequence[Record], jobs: Sequence[Record] = ()) -> dict[str, Any]:
    """Return the distinct commits, versions, machines, seeds and commands of all jobs, all input hashes, and each job.

    `records` are the jobs' own, `jobs` those of `job_record`, each of which gets the number of its environment. `starts`
    names the jobs that were started more than once.
    """
    ordered = sorted(records, key=canonical)
    stages = sorted({str(record["stage"]) for record in ordered}, key=stage_order)
    inputs = {str(path): str(digest) for record in ordered for path, digest in record["inputs"].items()}
    return {
        "num_jobs": len(ordered),
        "commits": _distinct(record["commit"] or "none" for record in ordered),
        "branches": _distinct(record["branch"] or "none" for record in ordered),
        "is_dirty": any(record["dirty"] for record in ordered),
        "diffs": _diffs(ordered),
        "locks": _distinct(record["lock_sha256"] for record in ordered if record.get("lock_sha256")),
        "cartridges": _merged(record.get("cartridges", {}) for record in ordered),
        "versions": _merged(record["versions"] for record in ordered),
        "hardware": _merged(record["hardware"] for record in ordered),
        "num_machines": len({canonical(record["hardware"]) for record in ordered}),
        "computing": _merged(record["computing"] for record in ordered),
        "seeds": _merged(record["seeds"] for record in ordered),
        "commands": _distinct(_command(record["command"]) for record in ordered if record["command"]),
        "digests": {
            stage: _distinct(record["digest"] for record in ordered if record["stage"] == stage)
            for stage in stages
        },
        "inputs": dict(sorted(inputs.items())),
        "inputs_sha256": hashlib.sha256(canonical(inputs).encode()).hexdigest(),
        "starts": _starts(jobs),
        **_each(jobs),
    }


def _diffs(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Return, for each diff of uncommitted changes, its bytes and where it is kept; None: not known, not kept."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if sha256 := record.get("diff_sha256"):
            told = {"num_bytes": record.get("diff_bytes"), "file": record.get("diff_file")}
            if told["file"] or sha256 not in found:
                found[sha256] = told
    return dict(sorted(found.items()))


def _starts(jobs: Sequence[Record]) -> dict[str, Any]:
    """Return how many jobs counted their starts, and those that began more than once."""
    counted = [job for job in jobs if job["num_resumes"] is not None]
    keys = ("folder", "stage", "variant", "game", "seed", *STARTS)
    again = [job for job in counted if (job["num_starts"] or 1) > 1 or job["num_resumes"]]
    told = [{key: job[key] for key in keys} for job in again]
    return {"num_counted": len(counted), "jobs": sorted(told, key=_place)}


def _each(jobs: Sequence[Record]) -> dict[str, Any]:
    environments = sorted({canonical(job["environment"]) for job in jobs})
    numbered = [{**job, "environment": environments.index(canonical(job["environment"]))} for job in jobs]
    return {
        "environments": [json.loads(environment) for environment in environments],
        "jobs": sorted(numbered, key=_place),
    }


def _place(job: Record) -> tuple[tuple[int, str], str, str]:
    return (stage_order(job["stage"]), str(job["folder"]), canonical(job))


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
