"""Score against what it cost: the front of the best bargains, and the curve over seconds and updates instead of steps."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from irisflow.reporting.drawing import (
    MANY_ROWS,
    WIDTH,
    Drawing,
    Row,
    banded_line,
    broken,
    legend,
    row_of_axes,
    steps_text,
)
from irisflow.reporting.findings import aggregate_label, sentence
from irisflow.reporting.style import (
    DASH,
    INK,
    PALE,
    Look,
    Summary,
    count,
    duration,
    each,
    inches,
    looks,
    number,
    several,
    time_unit,
    variant_names,
)
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell
from irisflow.statistics.efficiency import TARGETS

TRAINING = "train_agent"
Point = Mapping[str, Any]


def prices(summary: Summary) -> dict[str, dict[str, Any]]:
    """Return variant -> `seconds` of training a run, the IQM with its interval, and `is_on_front`.

    On the front: no other variant scores at least as much for at most as much and is better in one of both.
    """
    points = {
        row["variant"]: {
            "seconds": row["wall_s"] / row["num_jobs"],
            **_estimate(summary["aggregates"][row["variant"]]["iqm"]),
        }
        for row in summary["cost"]["rows"]
        if row["stage"] == TRAINING and summary["aggregates"].get(row["variant"])
    }
    ordered = {name: points[name] for name in variant_names(summary) if name in points}
    return {
        name: {**point, "is_on_front": not any(_beats(other, point) for other in ordered.values())}
        for name, point in ordered.items()
    }


def _estimate(record: Point) -> dict[str, Any]:
    return {key: record[key] for key in ("value", "low", "high")}


def _beats(other: Point, point: Point) -> bool:
    is_no_worse = other["value"] >= point["value"] and other["seconds"] <= point["seconds"]
    return bool(is_no_worse and (other["value"], other["seconds"]) != (point["value"], point["seconds"]))


def draw_front(summary: Summary) -> Drawing:
    """Return F20: the IQM against the wall-clock of a run's training, with the front of the best bargains."""
    styles, points = looks(summary), prices(summary)
    unit, seconds = time_unit(max(point["seconds"] for point in points.values()))
    figure = Figure(
        figsize=(inches(WIDTH), inches(46 if len(points) <= MANY_ROWS else 66)), layout="constrained"
    )
    axes = figure.subplots()
    for name, point in points.items():
        _bargain(axes, point["seconds"] / seconds, point, styles[name], name)
    front = sorted(
        (point["seconds"] / seconds, point["value"]) for point in points.values() if point["is_on_front"]
    )
    for (x, y), (next_x, next_y) in pairwise(front):
        axes.plot([x, next_x, next_x], [y, y, next_y], color=INK, linewidth=0.8, linestyle="--", zorder=1)
    axes.set(xlabel=f"{unit} of training, mean over the runs", ylabel=aggregate_label(summary))
    axes.margins(x=0.12, y=0.12)
    axes.grid(visible=True)
    hollow = Line2D([], [], color=PALE, marker="o", markerfacecolor="white", linestyle="none")
    legend(figure, {name: styles[name] for name in points}, extra={"another is better and cheaper": hollow})
    rows: list[Row] = [{"variant": name, **point} for name, point in points.items()]
    caption = (
        "Wall-clock of train_agent, evaluations while training included; pretraining that several variants share is not"
        " (T4). Bar: 95 % interval of the IQM. Filled and joined: no other variant scores more for less time. Times of"
        " jobs that ran side by side, or on different machines, do not compare well."
    )
    return Drawing("F20", front_finding(summary), caption, figure, rows)


def _bargain(axes: Axes, x: float, point: Point, look: Look, name: str) -> None:
    if point["low"] is not None:
        axes.vlines(x, point["low"], point["high"], color=look.colour, linewidth=2.4, alpha=0.4)
    face = look.colour if point["is_on_front"] else "white"
    axes.plot([x], [point["value"]], look.marker, color=look.colour, markerfacecolor=face, markersize=6.5)
    if point["is_on_front"]:
        axes.annotate(
            broken(name, 24), (x, point["value"]), xytext=(6, 4), textcoords="offset points", fontsize=7
        )


def front_finding(summary: Summary) -> str:
    """Return which variants are on the front, and what the best of them costs against the baseline."""
    points, baseline = prices(summary), summary["study"]["baseline"]
    on_front = [name for name, point in points.items() if point["is_on_front"]]
    if len(points) == 1:
        (name,) = points
        seconds, value = points[name]["seconds"], points[name]["value"]
        return f"A run of {name} trains for {duration(seconds)} and scores {number(value)} ({aggregate_label(summary)})."
    best = max(on_front, key=lambda name: points[name]["value"])
    told = several([(points[name]["value"], name) for name in on_front])
    if baseline not in points or best == baseline:
        return f"No variant scores more in less time than: {told}."
    ratio = points[best]["seconds"] / points[baseline]["seconds"]
    return (
        f"No variant scores more in less time than: {told}. {best}, the highest, takes {number(ratio, 2)} times as long as"
        f" {baseline}."
    )


def has_spending(summary: Summary) -> bool:
    """Return whether the curve of some variant has points whose time is known."""
    return any(summary.get("efficiency", {}).get("spent", {}).values())


def draw_spending(summary: Summary) -> Drawing:
    """Return F21: the IQM while training over wall-clock, and over updates."""
    styles = looks(summary)
    spent = {name: points for name, points in summary["efficiency"]["spent"].items() if points}
    unit, seconds = time_unit(max(points[-1]["seconds"] for points in spent.values()))
    figure = Figure(
        figsize=(inches(WIDTH), inches(46 if len(spent) <= MANY_ROWS else 62)), layout="constrained"
    )
    clock, updates = row_of_axes(figure, 2, sharey=True)
    rows: list[Row] = []
    for name, points in spent.items():
        banded_line(clock, _column(points, "seconds") / seconds, points, styles[name], marker_every=1)
        banded_line(updates, _column(points, "updates"), points, styles[name], marker_every=1)
        rows += [{"variant": name, **point} for point in points]
    clock.set(xlabel=f"{unit} of training", ylabel=aggregate_label(summary))
    updates.set_xlabel("updates of all parts")
    updates.xaxis.set_major_formatter(FuncFormatter(steps_text))
    for axes in (clock, updates):
        axes.set_xlim(left=0)
        axes.grid(visible=True)
    legend(figure, {name: styles[name] for name in spent})
    caption = (
        "The points of F6 at the median over runs of what training had taken by then: seconds of collecting and of updates,"
        " evaluations, checkpoints and pretraining left out; optimizer steps of tokenizer, world model and actor-critic"
        " together. Bands as in F6."
    )
    return Drawing("F21", spending_finding(summary), caption, figure, rows)


def _column(points: list[Point], key: str) -> np.ndarray:
    return np.array([point[key] for point in points])


def spending_finding(summary: Summary) -> str:
    """Return the IQMs after the training time that all variants have had."""
    spent = {name: points for name, points in summary["efficiency"]["spent"].items() if points}
    shared = min(points[-1]["seconds"] for points in spent.values())
    reached = {
        name: [point["value"] for point in points if point["seconds"] <= shared * (1 + 1e-9)]
        for name, points in spent.items()
    }
    last = {name: values[-1] for name, values in reached.items() if values}
    label = sentence(aggregate_label(summary))
    return f"{label} at the last evaluation within {duration(shared)} of training: {each(last, number)}."


def targets_table(summary: Summary) -> Block:
    """Return T12: after how many steps half of the runs have reached fixed scores."""
    columns = [
        column("Variant", align="left"),
        column("Runs"),
        *(column(f"Score {target:g}:\nmedian steps (reached)") for target in TARGETS),
    ]
    targets = summary["efficiency"]["targets"]
    rows: list[list[Cell]] = [
        [
            variant_cell(summary, name),
            count(targets[name][0]["num_runs"]),
            *(_steps(row) for row in targets[name]),
        ]
        for name in variant_names(summary)
        if name in targets
    ]
    caption = (
        "Environment steps, those of recorded pretraining data included, at the first evaluation while training at which a"
        " run's mean normalised score was at least the target; the median over the runs of the comparison, in brackets how"
        " many of them got there. > : half of them or more never did, so that the median lies beyond the last evaluation."
    )
    return table("T12", "Steps to fixed scores", columns, rows, caption=caption)


def _steps(row: Mapping[str, Any]) -> Cell:
    if not row["num_runs"]:
        return DASH
    share = f"({row['num_reached']} of {row['num_runs']})"
    if row["median_step"] is None:
        return {"text": f"> {count(row['last_step'])} {share}", "style": "muted"}
    return f"{count(row['median_step'])} {share}"
