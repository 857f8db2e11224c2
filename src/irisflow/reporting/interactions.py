"""Two changes at once: a grid of the aggregates, and how far a combination lies from the sum of its parts."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irisflow.reporting.ablation import delta
from irisflow.reporting.drawing import WIDTH, Drawing, Row, broken, ink_on
from irisflow.reporting.findings import aggregate_label
from irisflow.reporting.style import (
    GRID,
    INK,
    Summary,
    inches,
    interval,
    number,
    plural,
    seeds_text,
    signed,
    variant_names,
)
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell

HIGHEST = 128.0  # millimetres: the table's head fits below
CELL_WIDTH, CELL_HEIGHT, NAMES_WIDTH, HEADS_HEIGHT = 48.0, 13.0, 36.0, 13.0
BETTER, WORSE = (0.0, 0.45, 0.70), (0.84, 0.37, 0.0)
STRONGEST = 0.25  # an IQM that is so much above or below the baseline's has the full shade
Grid = Mapping[str, Any]


def grids_of(summary: Summary) -> list[Grid]:
    """Return the grids of two axes; an older summary has none."""
    return list(summary.get("interactions", ()))


def draw_interactions(summary: Summary) -> Drawing:
    """Return F24: for each two axes a grid of IQMs, as many grids as a page holds."""
    grids = _fitting(grids_of(summary))
    most = max(len(grid["columns"]) for grid in grids)
    heights = [_height(grid) for grid in grids]
    width = min(WIDTH, NAMES_WIDTH + CELL_WIDTH * most)
    figure = Figure(figsize=(inches(width), inches(sum(heights))), layout="constrained")
    panels = figure.subplots(len(grids), 1, squeeze=False, height_ratios=heights)[:, 0]
    rows: list[Row] = []
    for grid, axes in zip(grids, panels, strict=True):
        axes.set_xlim(0, most)
        rows += _draw_grid(axes, grid, summary)
    left_out = len(grids_of(summary)) - len(grids)
    more = f" {plural(left_out, 'more grid')}: T15." if left_out else ""
    caption = (
        f"{aggregate_label(summary)} with its 95 % bootstrap interval, n = {seeds_text(summary)} x"
        f" {plural(len(summary['block']['normalised_games']), 'game')} in every cell; blue above"
        f" {summary['study']['baseline']}, orange below. Third line: interaction, both minus each alone plus"
        f" {summary['study']['baseline']}; 0 where effects add up. T15 has the numbers.{more}"
    )
    return Drawing("F24", interaction_finding(summary), caption, figure, rows)


def _height(grid: Grid) -> float:
    return HEADS_HEIGHT + CELL_HEIGHT * len(grid["rows"])


def _fitting(grids: Sequence[Grid]) -> list[Grid]:
    """Return the first grids that fit on a page: one at least."""
    chosen = list(grids[:1])
    for grid in grids[1:]:
        if sum(map(_height, [*chosen, grid])) > HIGHEST:
            break
        chosen.append(grid)
    return chosen


def _draw_grid(axes: Axes, grid: Grid, summary: Summary) -> list[Row]:
    baseline = summary["study"]["baseline"]
    made = {(cell["row"], cell["column"]): cell["variant"] for cell in grid["cells"]}
    made |= {(row, baseline): row for row in grid["rows"]}
    made |= {(baseline, column): column for column in grid["columns"]}
    contrasts = {record["both"]: record for record in grid["contrasts"]}
    rows: list[Row] = []
    for down, row in enumerate(grid["rows"]):
        for across, other in enumerate(grid["columns"]):
            variant = made.get((row, other))
            record = contrasts.get(variant, {}) if variant else {}
            _cell(axes, (across, down), summary, variant, record)
            if variant:
                rows.append(_csv_row(grid, row, other, variant, summary, record))
    axes.set_ylim(len(grid["rows"]), 0)
    for place, names in ((axes.xaxis, grid["columns"]), (axes.yaxis, grid["rows"])):
        shown = ["unchanged" if name == baseline else broken(name, 22) for name in names]
        place.set_ticks([index + 0.5 for index in range(len(names))], shown)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel=grid["axes"][1], ylabel=grid["axes"][0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return rows


def _cell(
    axes: Axes, corner: tuple[int, int], summary: Summary, variant: str | None, contrast: Mapping[str, Any]
) -> None:
    """Draw one cell: the variant's IQM, and of a combination its name and its interaction."""
    iqm = summary["aggregates"][variant]["iqm"] if variant else None
    colour = _shade(iqm["value"] - _baseline_iqm(summary)) if iqm else GRID
    patch = Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=2)
    axes.add_patch(patch)
    lines = (
        [interval(iqm), *([str(variant), delta(contrast["iqm"])] if contrast else [])] if iqm else ["not run"]
    )
    places = {1: (0.5,), 3: (0.24, 0.5, 0.76)}[len(lines)]
    artists: list[Any] = [patch]
    for index, (line, place) in enumerate(zip(lines, places, strict=True)):
        artists.append(
            axes.text(
                corner[0] + 0.5,
                corner[1] + place,
                line,
                ha="center",
                va="center",
                fontsize=7.5 if index == 0 else 6.5,
                color=ink_on(colour) if iqm else INK,
            )
        )
    for artist in artists if variant else ():
        artist.set_gid(f"variant-{variant_names(summary).index(str(variant))}")


def _baseline_iqm(summary: Summary) -> float:
    return float(summary["aggregates"][summary["study"]["baseline"]]["iqm"]["value"])


def _shade(difference: float) -> str:
    strength = 0.6 * min(1.0, abs(difference) / STRONGEST)
    red, green, blue = BETTER if difference > 0 else WORSE
    return to_hex((1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)))


def _csv_row(
    grid: Grid, row: str, column: str, variant: str, summary: Summary, contrast: Mapping[str, Any]
) -> Row:
    iqm, apart = summary["aggregates"][variant]["iqm"], contrast.get("iqm", {})
    return {
        "axes": " x ".join(grid["axes"]),
        "row": row,
        "column": column,
        "variant": variant,
        **{key: iqm[key] for key in ("value", "low", "high")},
        **{f"interaction_{key}": apart.get(key) for key in ("value", "low", "high")},
    }


def interaction_finding(summary: Summary) -> str:
    """Return which combination lies furthest from the sum of its parts, and how many do by their intervals."""
    contrasts = [contrast for grid in grids_of(summary) for contrast in grid["contrasts"]]
    furthest = max(contrasts, key=lambda contrast: abs(contrast["iqm"]["value"]))
    told = _told(furthest, aggregate_label(summary))
    if len(contrasts) == 1:
        return told
    apart = [contrast for contrast in contrasts if _is_apart(contrast["iqm"])]
    known = [contrast for contrast in contrasts if contrast["iqm"]["low"] is not None]
    counted = f" Intervals without 0: {len(apart)} of {plural(len(known), 'combination')}." if known else ""
    return f"Furthest from the sum of its parts: {told}{counted}"


def _told(contrast: Mapping[str, Any], label: str) -> str:
    estimate, names = contrast["iqm"], f"{contrast['first']} and {contrast['second']}"
    if number(estimate["value"]) == number(0):
        size = f"as much as the sum of what each gives alone ({label})"
    else:
        direction = "more" if estimate["value"] > 0 else "less"
        size = f"{number(abs(estimate['value']))} {direction} than the sum of what each gives alone ({label})"
    if estimate["low"] is None:
        return f"{names} together give {size}; one run each, no interval."
    holds = "" if _is_apart(estimate) else "; the interval holds 0"
    return f"{names} together give {size} [{signed(estimate['low'])}, {signed(estimate['high'])}]{holds}."


def _is_apart(estimate: Mapping[str, Any]) -> bool:
    return estimate["low"] is not None and not estimate["low"] <= 0 <= estimate["high"]


def interaction_table(summary: Summary) -> Block:
    """Return T15: for each combination the four IQMs, the sum that would be expected, and the interaction."""
    columns = [
        column("First change", align="left"),
        column("Second change", align="left"),
        column("Both changes", align="left"),
        column("Neither"),
        column("First\nalone"),
        column("Second\nalone"),
        column("Sum of\nboth"),
        column("Both"),
        column(f"Interaction, {aggregate_label(summary)}\n[95 % CI]"),
        column("Interaction, mean\n[95 % CI]"),
        column("Games ×\nseeds"),  # noqa: RUF001
    ]
    rows: list[list[Cell]] = []
    rules = []
    for grid in grids_of(summary):
        rows += [_cells(summary, contrast) for contrast in grid["contrasts"]]
        rules.append(len(rows) - 1)
    baseline = summary["study"]["baseline"]
    caption = (
        f"{aggregate_label(summary)} of four arms: {baseline} (neither), each change alone, both. Sum: what both would give"
        " if the effects added up. Interaction: both minus first minus second plus neither; interval: runs of each arm"
        " resampled on their own, as everywhere. The IQM is no sum over runs, so the interaction of the mean stands beside"
        " it. No test: where each change has an effect, labels cannot be exchanged. In simulated studies without"
        " interaction such intervals missed 0 in 16 to 24 % of cases with 2 seeds, 10 to 17 % with 3, 5 to 10 % with 5."
    )
    return table(
        "T15",
        "How far combinations lie from the sum of their parts",
        columns,
        rows,
        caption=caption,
        size=7.5,
        rules_after=rules[:-1],
    )


def _cells(summary: Summary, contrast: Mapping[str, Any]) -> list[Cell]:
    first, second, both = (contrast[key] for key in ("first", "second", "both"))
    values = {
        name: summary["aggregates"][name]["iqm"]["value"]
        for name in (summary["study"]["baseline"], first, second, both)
    }
    neither = values[summary["study"]["baseline"]]
    return [
        variant_cell(summary, first),
        variant_cell(summary, second),
        variant_cell(summary, both),
        *map(number, (neither, values[first], values[second], values[first] + values[second] - neither)),
        {"text": number(values[both]), "style": "strong"},
        delta(contrast["iqm"]),
        delta(contrast["mean"]),
        f"{contrast['num_games']} × {contrast['least_runs']}",  # noqa: RUF001
    ]
