"""Where the numbers come from: the tables of it, and `provenance.json`, which has every job."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irisflow.reporting.style import DASH, Summary, listed, plural
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell
from irisflow.statistics.account import SHARED
from irisflow.statistics.provenance import PER_JOB, STARTS
from irisflow.storage import compact_json

MOST_INPUTS = 12
MOST_CARTRIDGES = 4
MOST_DIGESTS = 4
MOST_STARTS = 40  # jobs by name; the others are in provenance.json
MOST_SHOWN_BYTES = 200_000  # of a diff that the page offers
FLAGS = (
    "deterministic_algorithms", "cudnn_deterministic", "cudnn_benchmark", "cuda_matmul_allow_tf32", "cudnn_allow_tf32",
    "float32_matmul_precision",
)  # fmt: skip


def provenance_json(summary: Summary) -> bytes:
    """Return `provenance.json`: what the page tells, and each job, with the settings that it stands on."""
    study = summary["study"]
    told = {
        "study": {key: study[key] for key in ("name", "title", "scale", "baseline", "games", "seeds")},
        "configuration": dict(study.get("configuration", ())),
        "changes": {variant["name"]: variant.get("changes", []) for variant in study["variants"]},
        "scores_sha256": summary["scores_sha256"],
        **summary["provenance"],
    }
    return compact_json(told)


def without_jobs(summary: Summary) -> dict[str, Any]:
    """Return the summary without what only `provenance.json` has."""
    kept = {key: value for key, value in summary["provenance"].items() if key not in PER_JOB}
    return {**summary, "provenance": kept}


def shown_diffs(summary: Summary) -> dict[str, bytes]:
    """Return, by sha256, the uncommitted changes that are kept, whole and not too long for the page."""
    found = {}
    for sha256, told in summary["provenance"].get("diffs", {}).items():
        file = Path(told["file"]) if told["file"] else None
        if file is not None and file.is_file() and file.stat().st_size <= MOST_SHOWN_BYTES:
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                found[sha256] = data
    return found


def provenance_table(summary: Summary) -> Block:
    """Return T5: where the numbers come from."""
    record = summary["provenance"]
    cartridges = [f"{game} {'/'.join(found)}" for game, found in record.get("cartridges", {}).items()]
    flags = {key: record["computing"][key] for key in FLAGS if key in record["computing"]}
    computing = {key: found for key, found in record["computing"].items() if key not in FLAGS}
    rows: list[list[Cell]] = [
        ["Commit", listed(record["commits"], 3)],
        ["Branch", listed(record["branches"], 3)],
        ["Working tree dirty", _tree(record)],
        ["Scores, sha256", summary["scores_sha256"]],
        ["Inputs, sha256 of all", f"{record['inputs_sha256']} ({plural(len(record['inputs']), 'file')})"],
        *_pairs("Seeds: ", record["seeds"], most=12),
        *_pairs("Machine: ", record["hardware"], most=3),
        ["Computed with", _values(computing)],
        ["Flags of torch", _values(flags)],
        ["Starts of long jobs", _started(record.get("starts"))],
        ["Versions", _values(record["versions"])],
        ["Locked versions, sha256", listed(record.get("locks", ()), 3) or DASH],
        ["Cartridges, md5", listed(cartridges, MOST_CARTRIDGES) if cartridges else DASH],
        *_pairs("Digests: ", record["digests"], most=MOST_DIGESTS, length=12),
        *_pairs("", {"Command": record["commands"]}, most=3),
    ]
    columns = [column("What", align="left"), column("Value", align="left", width="1fr")]
    caption = (
        f"Gathered from {plural(record['num_jobs'], 'job')}; every value, job by job, is in provenance.json."
    )
    return table("T5", "Provenance", columns, rows, size=7.5, caption=caption)


def _tree(record: Mapping[str, Any]) -> Cell:
    """Return whether anything was not committed, and where that is kept."""
    if not record["is_dirty"]:
        return "no"
    diffs = "".join(f"; {_diff(sha256, told)}" for sha256, told in record.get("diffs", {}).items())
    return {"text": f"yes: uncommitted changes{diffs}", "style": "bad"}


def _diff(sha256: str, told: Mapping[str, Any]) -> str:
    if told["file"]:
        return f"kept in {told['file']}"
    size = "" if told["num_bytes"] is None else f"{told['num_bytes'] / 1e6:,.1f} MB "
    return f"{size}not kept, sha256 {sha256}"


def _started(starts: Mapping[str, Any] | None) -> str:
    """Return how many of the jobs that can be continued went on from a checkpoint, and how many died."""
    if not starts or not starts["num_counted"]:
        return "not recorded"
    total = plural(starts["num_counted"], "job")
    if not starts["jobs"]:
        return f"none of {total} was started more than once"
    resumed, stopped, died = (
        sum(job[key] or 0 for job in starts["jobs"]) for key in ("num_resumes", "num_interrupted", "num_died")
    )
    return (
        f"{len(starts['jobs'])} of {total} started more than once: resumed {plural(resumed, 'time')}, interrupted"
        f" {plural(stopped, 'time')}, died {plural(died, 'time')} (T19)"
    )


def starts_table(summary: Summary) -> Block | None:
    """Return T19: the jobs that were started more than once, and how their starts ended; None if nothing was counted."""
    starts = summary["provenance"].get("starts")
    if not starts or not starts["num_counted"]:
        return None
    columns = [
        column("Stage", align="left"),
        column("Variant", align="left"),
        column("Game", align="left"),
        column("Seed"),
        column("Folder", align="left", width="1fr"),
        *(column(title) for title in ("Starts", "Resumed", "Interrupted", "Died")),
    ]
    rows = list(_start_rows(summary, starts["jobs"][:MOST_STARTS]))
    more = len(starts["jobs"]) - len(rows)
    once = starts["num_counted"] - len(starts["jobs"])
    if more:
        rows.append([{"text": f"{more} more, in provenance.json", "style": "muted"}, *[""] * 8])
    rows.append(
        [{"text": f"{plural(once, 'other job' if rows else 'job')}, once each", "style": "muted"}, *[""] * 8]
    )
    caption = (
        "Of training and pretraining, which go on from checkpoints. Resumed: from a checkpoint; the others began anew."
        " Interrupted: asked to stop (Ctrl-C, a scheduler). Died: neither finished nor interrupted, such as killed or out of"
        " memory. Counted from a job's first start until its outputs were there."
    )
    return table("T19", "How often jobs were started", columns, rows, caption=caption, size=7.5)


def _start_rows(summary: Summary, jobs: Sequence[Mapping[str, Any]]) -> Iterator[list[Cell]]:
    for job in jobs:
        died = DASH if job["num_died"] is None else str(job["num_died"])
        yield [
            job["stage"],
            variant_cell(summary, job["variant"] or SHARED),
            job["game"] or DASH,
            DASH if job["seed"] is None else str(job["seed"]),
            job["folder"],
            *(DASH if job[key] is None else str(job[key]) for key in STARTS[:-1]),
            {"text": died, "style": "bad"} if job["num_died"] else died,
        ]


def _values(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {'/'.join(values)}" for name, values in found.items()) or DASH


def _pairs(
    prefix: str, record: Mapping[str, Sequence[str]], *, most: int, length: int | None = None
) -> list[list[Cell]]:
    """Return a row for each key with its values, each cut to `length`."""
    rows: list[list[Cell]] = []
    for key, values in record.items():
        rows.append([f"{prefix}{key}".replace("_", " "), listed([value[:length] for value in values], most)])
    return rows


def input_tables(summary: Summary) -> list[Block]:
    """Return T6: files read, with their hashes; nothing where no job named any."""
    inputs = summary["provenance"]["inputs"]
    if not inputs:
        return []
    rows: list[list[Cell]] = [[path, digest[:16]] for path, digest in list(inputs.items())[:MOST_INPUTS]]
    more = len(inputs) - len(rows)
    caption = f"{more:,} more files are listed in provenance.json." if more else ""
    columns = [column("File", align="left"), column("sha256, first 16", align="left")]
    return [table("T6", "Input files", columns, rows, caption=caption, size=7.0)]
