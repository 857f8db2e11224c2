"""What each change does, by the axis that it changes: a table of differences from the baseline, and a tornado of them."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from irisflow.reporting.drawing import WIDTH, Drawing, Row, name_rows, whisker
from irisflow.reporting.findings import aggregate_label
from irisflow.reporting.style import (
    DASH,
    INK,
    Summary,
    inches,
    interval,
    looks,
    number,
    p_value,
    signed,
    variant_names,
)
from irisflow.reporting.tables import VERDICT_STYLES, Block, Cell, column, table, variant_cell

MOST_ROOMY = 8


def axes_of(summary: Summary) -> dict[str, list[str]]:
    """Return axis -> the variants that change it, in the study's order; empty where no variant says what it changes."""
    baseline = summary["study"]["baseline"]
    found: dict[str, list[str]] = {}
    for variant in summary["study"]["variants"]:
        if variant["name"] != baseline and variant["axis"]:
            found.setdefault(variant["axis"], []).append(variant["name"])
    return found


def has_tornado(summary: Summary) -> bool:
    """Return whether some variant has an axis and a difference in IQM."""
    return bool(axes_of(summary)) and any(
        record["iqm_difference"] for record in summary["comparisons"].values()
    )


def draw_tornado(summary: Summary) -> Drawing:
    """Return F19: the differences in IQM from the baseline, the largest first."""
    axis_of = {name: axis for axis, names in axes_of(summary).items() for name in names}
    found = {
        name: record["iqm_difference"]
        for name, record in summary["comparisons"].items()
        if record["iqm_difference"]
    }
    ordered = sorted(found, key=lambda name: -abs(found[name]["value"]))
    styles = looks(summary)
    height = 18 + (8.0 if len(ordered) <= MOST_ROOMY else 5.2) * len(ordered)
    figure = Figure(figsize=(inches(WIDTH), inches(height)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(ordered):
        (bar,) = axes.barh(place, found[name]["value"], height=0.6, color=styles[name].colour, alpha=0.35)
        bar.set_gid(f"variant-{variant_names(summary).index(name)}")
        whisker(axes, place, found[name], styles[name])
        words = f"{axis_of.get(name, '')}   {delta(found[name])}"
        axes.annotate(words, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(f"{aggregate_label(summary)} minus that of {summary['study']['baseline']}")
    name_rows(axes, ordered)
    rows: list[Row] = [{"variant": name, "axis": axis_of.get(name, ""), **found[name]} for name in ordered]
    caption = (
        "Largest difference first; at the right the axis that the variant changes. Bar: the difference; thick line: its"
        " 95 % bootstrap interval, runs of both variants resampled (none with one seed). T11 has the tests."
    )
    return Drawing("F19", tornado_finding(summary), caption, figure, rows)


def tornado_finding(summary: Summary) -> str:
    """Return which change moves the IQM most and which least."""
    axis_of = {name: axis for axis, names in axes_of(summary).items() for name in names}
    values = {
        name: record["iqm_difference"]["value"]
        for name, record in summary["comparisons"].items()
        if record["iqm_difference"]
    }
    sizes = {name: abs(value) for name, value in values.items()}
    most, least = max(sizes, key=lambda name: sizes[name]), min(sizes, key=lambda name: sizes[name])
    baseline, label = summary["study"]["baseline"], aggregate_label(summary)
    if number(sizes[most]) == number(0):
        return f"No change moves the {label} of {baseline}."

    def told(name: str) -> str:
        where = f" ({axis_of[name]})" if name in axis_of else ""
        return f"{name}{where}, {signed(values[name])}"

    if most == least:
        return f"The one change, {told(most)}, beside the {label} of {baseline}."
    if number(sizes[most]) == number(sizes[least]):
        return f"Every change moves the {label} of {baseline} alike, by {number(sizes[most])}."
    return (
        f"The change that moves the {label} of {baseline} most is {told(most)}; the one that moves it least"
        f" {told(least)}."
    )


def ablation_table(summary: Summary) -> Block:
    """Return T11: for each axis the baseline and the variants that change it, with their differences."""
    label = aggregate_label(summary)
    columns = [
        column("Axis", align="left"),
        column("Variant", align="left"),
        column(f"{label}\n[95 % CI]"),
        column(f"Δ {label}\n[95 % CI]"),
        column("Δ median"),
        column("Δ mean"),
        column("Δ optimality\ngap"),
        column("P(improvement)\n[95 % CI]"),
        column("p"),
        column("p\n(Holm)"),
        column("Verdict", align="left"),
    ]
    rows: list[list[Cell]] = []
    rules = []
    for axis, names in axes_of(summary).items():
        rows += [
            [axis if place == 0 else "", *_cells(summary, name)]
            for place, name in enumerate([summary["study"]["baseline"], *names])
        ]
        rules.append(len(rows) - 1)
    caption = (
        f"A block for each axis; {summary['study']['baseline']} is the same in all. Δ: the variant minus"
        f" {summary['study']['baseline']}; of the optimality gap less is better. p: permutation test on P(improvement);"
        " Holm: over all variants of the study, whatever their axis."
    )
    return table(
        "T11", "One change at a time", columns, rows, caption=caption, size=7.5, rules_after=rules[:-1]
    )


def _cells(summary: Summary, name: str) -> list[Cell]:
    metrics, comparison = summary["aggregates"][name], summary["comparisons"].get(name)
    first: list[Cell] = [
        variant_cell(summary, name),
        {"text": interval(metrics.get("iqm")), "style": "strong"},
    ]
    if not comparison:
        return [*first, *[DASH] * 7, {"text": "baseline", "style": "muted"}]
    base = summary["aggregates"][summary["study"]["baseline"]]
    deltas = [
        signed(metrics[metric]["value"] - base[metric]["value"]) if metrics and base else DASH
        for metric in ("median", "mean", "optimality_gap")
    ]
    return [
        *first,
        delta(comparison["iqm_difference"]),
        *deltas,
        interval(comparison["improvement"], 2),
        p_value(comparison["p"]),
        p_value(comparison["p_holm"]),
        {"text": comparison["verdict"], "style": VERDICT_STYLES.get(comparison["verdict"], "")},
    ]


def delta(estimate: Mapping[str, Any] | None) -> str:
    """Return `+0.120 [-0.010, +0.250]`, without the brackets where there is no interval."""
    if not estimate:
        return DASH
    if estimate["low"] is None:
        return signed(estimate["value"])
    return f"{signed(estimate['value'])} [{signed(estimate['low'])}, {signed(estimate['high'])}]"
