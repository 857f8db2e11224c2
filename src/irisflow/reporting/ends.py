"""The figure of the end head: how precise it is at each recall, and whether ends are as probable as it says."""

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from irisflow.reporting import quality_findings
from irisflow.reporting.drawing import WIDTH, Drawing, Row, legend
from irisflow.reporting.quality import Place, Quality, Record
from irisflow.reporting.style import INK, PALE, Look, inches

PRECISION, PREDICTED, OCCURRED = "end_precision", "end_predicted", "end_occurred"
LINEAR_BELOW = 1e-3  # of the logarithmic axes: 0 has a place on them
TICKS = (0.0, 0.001, 0.01, 0.1, 1.0)


def draw_ends(quality: Quality, styles: Mapping[str, Look]) -> Drawing:
    """Return F25: precision against recall, and what ended against what was said to end, first (hollow) to last weights."""
    num_places = len(quality.places)
    shape = (1, 2) if num_places == 1 else (2, num_places)
    figure = Figure(figsize=(inches(WIDTH), inches(90.0 if num_places == 1 else 130.0)), layout="constrained")
    of_recall, of_probability = figure.subplots(*shape, squeeze=False).reshape(2, num_places)
    rows: list[Row] = []
    for place, above, below in zip(quality.places, of_recall, of_probability, strict=True):
        rows += _precision_panel(above, quality, styles, place)
        rows += _calibration_panel(below, quality, styles, place)
    extra: dict[str, Line2D | Patch] = {
        "first weights": Line2D([], [], color=PALE, marker="o", markerfacecolor="white", linewidth=0.8),
        "base rate of ends": Line2D([], [], color=INK, linewidth=0.9, linestyle=":"),
        "as told": Line2D([], [], color=INK, linewidth=0.9, linestyle="--"),
    }
    legend(figure, {name: styles[name] for name in quality.variants}, extra=extra)
    caption = (
        "After each held-out step, given the real past; mean over seeds. Precision: at the highest threshold that finds so"
        " many of the ends. Share that ended: of the steps in bins of the probability that was told (to .01, .03, .1,"
        ' .3, 1); below the dashed line too many ends are promised. A constant "no" has the base rate as'
        " precision and as calibration error."
    )
    return Drawing("F25", quality_findings.ends(quality), caption, figure, rows)


def _precision_panel(axes: Axes, quality: Quality, styles: Mapping[str, Look], place: Place) -> list[Row]:
    rows: list[Row] = []
    for name, step, is_finished in _weights(quality, place):
        found = quality.by_class(name, place, PRECISION, step)
        recalls = [percent / 100 for percent in found]
        _line(axes, recalls, [record["mean"] for record in found.values()], styles[name], is_finished)
        rows += _rows(place, name, step, {PRECISION: found})
    base = _base_rates(axes, quality, place)
    if not rows:
        axes.text(0.5, 0.5, "no end in the held-out episodes", ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="recall of ends", ylabel="precision")
    axes.set_title(place.label, loc="left", fontsize=7.5)
    axes.grid(visible=True)
    return [*rows, *base]


def _calibration_panel(axes: Axes, quality: Quality, styles: Mapping[str, Look], place: Place) -> list[Row]:
    rows: list[Row] = []
    for name, step, is_finished in _weights(quality, place):
        found = {metric: quality.by_class(name, place, metric, step) for metric in (PREDICTED, OCCURRED)}
        said, was = ([record["mean"] for record in records.values()] for records in found.values())
        _line(axes, said, was, styles[name], is_finished)
        error = quality.scalar(name, place, "end_calibration_error", step)
        told = {"end_calibration_error": {"": error}} if error else {}
        rows += _rows(place, name, step, {**found, **told})
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="--")
    _base_rates(axes, quality, place)
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW, linscale=0.5)
    axes.set_yscale("symlog", linthresh=LINEAR_BELOW, linscale=0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(TICKS)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlim=(-2e-4, 1.3), ylim=(-2e-4, 1.3), xlabel="probability of an end", ylabel="share that ended")
    axes.set_title(place.label, loc="left", fontsize=7.5)
    axes.grid(visible=True)
    return rows


def _weights(quality: Quality, place: Place) -> Iterator[tuple[str, int, bool]]:
    """Yield variant, step and whether it is the last, for the first and the last weights of all variants."""
    for name in quality.measured(place):
        steps = quality.steps(name, place)
        for step in sorted({steps[0], steps[-1]}):
            yield name, step, step == steps[-1]


def _line(axes: Axes, x: list[float], y: list[float], look: Look, is_finished: bool) -> None:
    axes.plot(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        markersize=4,
        markerfacecolor=look.colour if is_finished else "white",
        linewidth=1.3 if is_finished else 0.8,
        alpha=1.0 if is_finished else 0.6,
    )


def _base_rates(axes: Axes, quality: Quality, place: Place) -> list[Row]:
    """Draw and return the share of steps that are ends: one, where all variants were measured on the same episodes."""
    rows: list[Row] = []
    for name in quality.measured(place):
        step = max(quality.steps(name, place))
        if base := quality.scalar(name, place, "end_base_rate", step):
            rows += _rows(place, name, step, {"end_base_rate": {"": base}})
    for value in sorted({row["mean"] for row in rows}):
        axes.axhline(value, color=INK, linewidth=0.9, linestyle=":")
    return rows


def _rows(place: Place, name: str, step: int, found: Mapping[str, Mapping[Any, Record]]) -> list[Row]:
    return [
        {
            "place": place.label, "variant": name, "metric": metric, "env_step": step, "class": of_class,
            "mean": record["mean"], "n": record["n"],
        }
        for metric, records in found.items()
        for of_class, record in records.items()
    ]  # fmt: skip
