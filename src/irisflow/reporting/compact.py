"""Costs and phases of many variants: a row each instead of one a stage or phase, so that the table stays on a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from irisflow.reporting.phases import phases_table, rate
from irisflow.reporting.style import DASH, Summary, count, duration, listed, percent, variant_names
from irisflow.reporting.tables import (
    COST_NOTES,
    Block,
    Cell,
    column,
    cost_table,
    imagined_frame_gflop,
    millions_of_parts,
    table,
    variant_cell,
)
from irisflow.statistics.account import SHARED
from irisflow.statistics.inputs import COMPONENTS

MOST_COST_ROWS, MOST_PHASED = 16, 3
PHASES = ("collect", *COMPONENTS, "evaluate")
Record = Mapping[str, Any]


def cost_table_of(summary: Summary) -> Block:
    """Return T4 with a row for each stage and variant, or for each variant where these are many."""
    rows = summary["cost"]["rows"]
    return cost_table(summary) if len(rows) <= MOST_COST_ROWS else _wide_cost_table(summary, rows)


def _wide_cost_table(summary: Summary, rows: Sequence[Record]) -> Block:
    stages = list(summary["cost"]["wall_s_by_stage"])
    columns = [
        column("Variant", align="left"),
        column("Jobs"),
        *(column(f"Wall-clock:\n{stage}") for stage in stages),
        column("Longest\njob"),
        column("Environment\nsteps"),
        *(column(f"Updates:\n{part.replace('_', ' ')}") for part in COMPONENTS),
        column("Peak\nmemory"),
        column("Parameters"),
        column("GFLOP an\nimagined frame"),
        column("Device", align="left"),
    ]
    owners = [*variant_names(summary), SHARED]
    found = {owner: [row for row in rows if row["variant"] == owner] for owner in owners}
    cells = [_owner_cells(summary, owner, mine, stages) for owner, mine in found.items() if mine]
    caption = (
        "Sums over the jobs of a variant; memory is the largest resident set of one job; parameters: tokenizer / world model"
        " / actor-critic. shared: work that serves several variants. By stage and variant: F10's CSV and summary.json."
        f" {COST_NOTES}"
    )
    return table("T4", "Cost", columns, cells, caption=caption, size=7.5)


def _owner_cells(summary: Summary, owner: str, rows: Sequence[Record], stages: Sequence[str]) -> list[Cell]:
    by_stage = {row["stage"]: row["wall_s"] for row in rows}
    updates = {part: sum(row["num_updates"][part] for row in rows) for part in COMPONENTS}
    parameters = next((row["parameters"] for row in rows if row["parameters"]), None)
    return [
        variant_cell(summary, owner),
        count(sum(row["num_jobs"] for row in rows)),
        *(duration(by_stage[stage]) if stage in by_stage else DASH for stage in stages),
        duration(max(row["longest_s"] for row in rows)),
        count(sum(row["env_steps"] for row in rows)),
        *(count(updates[part]) if updates[part] else DASH for part in COMPONENTS),
        f"{max(row['peak_rss_mb'] for row in rows):,.0f} MB",
        millions_of_parts(parameters),
        imagined_frame_gflop(summary, owner) if parameters else DASH,
        listed(sorted({device for row in rows for device in row["devices"]}), 2),
    ]


def phases_table_of(summary: Summary) -> Block:
    """Return T10 with a row for each variant and phase, or for each variant where these are many."""
    rows = summary["cost"]["phases"]
    names = [name for name in variant_names(summary) if any(row["variant"] == name for row in rows)]
    return phases_table(summary) if len(names) <= MOST_PHASED else _wide_phases_table(summary, rows, names)


def _wide_phases_table(summary: Summary, rows: Sequence[Record], names: Sequence[str]) -> Block:
    columns = [
        column("Variant", align="left"),
        column("Runs"),
        column("Time,\nall runs"),
        *(column(f"{phase.replace('_', ' ')}:\nshare, rate") for phase in PHASES),
        column("Rest"),
        column("CPU\nbusy"),
        column("GPU\nbusy"),
        column("Peak\nmemory"),
        column("Peak GPU\nmemory"),
    ]
    found = {name: [row for row in rows if row["variant"] == name] for name in names}
    cells = [[variant_cell(summary, name), *_phase_cells(mine)] for name, mine in found.items()]
    caption = (
        "Share of the variant's training, and how often a second, in one run: steps in environments of collect and evaluate,"
        " updates of the parts. Rest: checkpoints, and what no phase covers. CPU busy: processor seconds per second and"
        " thread of torch; GPU busy: share of time with a kernel running; means over the seconds in which they were"
        f" measured. Memory: the largest. {DASH}: not measured. By phase: F17's CSV and summary.json."
    )
    return table("T10", "Phases of training", columns, cells, caption=caption, size=7.5)


def _phase_cells(rows: Sequence[Record]) -> list[Cell]:
    by_phase = {row["phase"]: row for row in rows}
    rest = sum(row["share"] for phase, row in by_phase.items() if phase not in PHASES)
    peaks = [_largest(rows, key) for key in ("peak_rss_mb", "cuda_peak_mb")]
    busy = [_mean(rows, key) for key in ("cpu_utilisation", "gpu_utilisation")]
    return [
        count(max(row["num_runs"] for row in rows)),
        duration(sum(row["seconds"] for row in rows)),
        *(_shared(by_phase.get(phase)) for phase in PHASES),
        percent(rest),
        *(DASH if value is None else percent(value) for value in busy),
        *(DASH if value is None else f"{count(value)} MB" for value in peaks),
    ]


def _shared(row: Record | None) -> str:
    if row is None:
        return DASH
    speed = row["steps_per_s"] if row["updates_per_s"] is None else row["updates_per_s"]
    return percent(row["share"]) if speed is None else f"{percent(row['share'])}, {rate(speed)}"


def _mean(rows: Sequence[Record], key: str) -> float | None:
    """Return the mean over the seconds of the phases in which it was measured."""
    seconds = sum(row["seconds"] for row in rows if row[key] is not None)
    return (
        sum(row[key] * row["seconds"] for row in rows if row[key] is not None) / seconds if seconds else None
    )


def _largest(rows: Sequence[Record], key: str) -> float | None:
    return max((row[key] for row in rows if row[key] is not None), default=None)
