"""What training spent its time on: a picture of its phases, and a table of their rates, utilisation and memory."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irisflow.reporting import findings
from irisflow.reporting.drawing import WIDTH, Drawing, label_on, name_rows, row_height
from irisflow.reporting.style import (
    DASH,
    Summary,
    count,
    duration,
    inches,
    percent,
    time_unit,
    variant_names,
)
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell
from irisflow.statistics.phases import LARGEST, MEANS, OTHER, PHASES

# Lightness and hatches keep them apart in grey.
FILLS = {
    phase: (colour, hatch)
    for phase, colour, hatch in zip(
        (*PHASES, OTHER),
        ("#1b2a49", "#3a5794", "#6488bd", "#a3b9d6", "#d3dde9", "#4b4f55", "#eef0f2"),
        ("", "///", "", "", "xxx", "...", ""),
        strict=True,
    )
}
LEAST_LABELLED = 0.045
ROWS = ("variant", "phase", "num_runs", "seconds", "share", *MEANS, *LARGEST)


def draw_phases(summary: Summary) -> Drawing:
    """Return F17: for each variant, the seconds and the shares of the phases of training."""
    rows = summary["cost"]["phases"]
    names = [name for name in variant_names(summary) if any(row["variant"] == name for row in rows)]
    unit, seconds = time_unit(max(_totals(rows).values()))
    figure = Figure(
        figsize=(inches(WIDTH), inches(24 + row_height(len(names), 8.0) * len(names))), layout="constrained"
    )
    times, shares = figure.subplots(1, 2, sharey=True)
    _stack(times, rows, names, key="seconds", per=seconds)
    _stack(shares, rows, names, key="share", per=0.01)
    name_rows(times, names)
    times.set_xlabel(f"{unit}, summed over runs")
    shares.set(xlabel="share of the variant's training, %", xlim=(0, 100))
    shares.tick_params(axis="y", length=0)
    shares.spines["left"].set_visible(False)
    shares.grid(visible=True, axis="x")
    figure.legend(*times.get_legend_handles_labels(), loc="outside upper left", ncols=len(FILLS))
    caption = (
        "Wall-clock of the jobs of train_agent, all games and seeds; runs may have gone side by side. other: start-up,"
        " snapshots, results, and what no phase covers."
    )
    plotted = [{key: row[key] for key in ROWS} for row in rows]
    return Drawing("F17", findings.phases(summary), caption, figure, plotted)


def _totals(rows: list[Mapping[str, Any]]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["variant"]] = totals.get(row["variant"], 0.0) + row["seconds"]
    return totals


def _stack(axes: Axes, rows: list[Mapping[str, Any]], names: list[str], *, key: str, per: float) -> None:
    """Draw a bar of phases for each variant; of shares, those that have room say how much they are."""
    found = {(row["variant"], row["phase"]): row for row in rows}
    ends = np.zeros(len(names))
    for phase, (colour, hatch) in FILLS.items():
        lengths = np.array(
            [found[name, phase][key] / per if (name, phase) in found else 0.0 for name in names]
        )
        if lengths.any():
            axes.barh(
                np.arange(len(names)),
                lengths,
                left=ends,
                height=0.62,
                color=colour,
                edgecolor="white",
                linewidth=0.6,
                hatch=hatch,
                label=phase.replace("_", " "),
            )
        for place, (start, length) in enumerate(zip(ends, lengths, strict=True)):
            if key == "share" and length >= 100 * LEAST_LABELLED:
                label_on(axes, start + length / 2, place, f"{length:.0f}", colour)
        ends += lengths


def phases_table(summary: Summary) -> Block:
    """Return T10: one row per variant and phase."""
    columns = [
        column("Variant", align="left"),
        column("Phase", align="left"),
        column("Runs"),
        column("Time,\nall runs"),
        column("Share"),
        column("Updates\na second"),
        column("Frames or steps\na second"),
        column("CPU\nbusy"),
        column("GPU\nbusy"),
        column("Peak\nmemory"),
        column("Peak GPU\nmemory"),
    ]
    found = summary["cost"]["phases"]
    rules = [
        index
        for index, (this, following) in enumerate(pairwise(found))
        if this["variant"] != following["variant"]
    ]
    caption = (
        "Frames: drawn from the replay buffer, or imagined by the actor-critic; steps: in environments. Rates are those of"
        " one run, means over seconds. CPU busy: processor seconds of the run and its environments' processes per second"
        " and thread of torch; GPU busy: share of time with a kernel running. Memory: a run's largest resident set until"
        " then, and what the GPU held at most within the phase."
        f" {DASH}: nothing to measure, or not measured."
    )
    rows = [_cells(summary, row) for row in found]
    return table("T10", "Phases of training", columns, rows, caption=caption, size=7.5, rules_after=rules)


def _cells(summary: Summary, row: Mapping[str, Any]) -> list[Cell]:
    frames, steps = row["frames_per_s"], row["steps_per_s"]
    return [
        variant_cell(summary, row["variant"]),
        row["phase"].replace("_", " "),
        count(row["num_runs"]),
        duration(row["seconds"]),
        percent(row["share"]) if row["share"] >= 0.005 else "<1 %",
        rate(row["updates_per_s"]),
        f"{rate(frames)} frames"
        if frames is not None
        else f"{rate(steps)} steps"
        if steps is not None
        else DASH,
        *(DASH if row[key] is None else percent(row[key]) for key in ("cpu_utilisation", "gpu_utilisation")),
        *(DASH if row[key] is None else f"{count(row[key])} MB" for key in ("peak_rss_mb", "cuda_peak_mb")),
    ]


def rate(value: float | None) -> str:
    """Return how often a second something is done, to about three digits, or a dash for None."""
    if value is None:
        return DASH
    return count(value) if value >= 100 else f"{value:#.3g}"
