"""F14: how well the frames to come are predicted, over the horizon."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from irisflow.reporting import quality_findings
from irisflow.reporting.drawing import Drawing, Ends, Row, broken, grid_of_axes, legend, steps_text
from irisflow.reporting.quality import NO_INTERVAL, Interval, Place, Quality, Record, interval_note
from irisflow.reporting.style import INK, PALE, Look, listed, plural

DYNAMICS_METRICS = {
    "token_accuracy": "token accuracy",
    "changed_token_accuracy": "accuracy of changed tokens",
    "open_psnr": "PSNR in dB",
    "open_ssim": "SSIM",
}
LONG_DASHES = (0, (9.0, 3.0))
REFERENCES: dict[str, tuple[str, Literal["-.", ":"] | tuple[float, tuple[float, float]]]] = {
    "teacher_forced": ("one step, given the real past", "-."),
    "copy_last": ("copy of the last frame", ":"),
    "ceiling": ("tokenizer's ceiling", LONG_DASHES),
}
LONGEST_LABEL = 18


def draw_dynamics(
    quality: Quality, styles: Mapping[str, Look], place: Place, names: list[str], identifier: str
) -> Drawing:
    """Return F14: how well the frames to come are predicted, over the horizon, a row of panels a variant."""
    figure, grid = grid_of_axes(names, len(DYNAMICS_METRICS), row_height=58 if len(names) == 1 else 50)
    rows: list[Row] = []
    intervals: dict[Line2D, list[Ends]] = {}
    for name, panels in zip(names, grid, strict=True):
        for axes, (metric, title) in zip(panels, DYNAMICS_METRICS.items(), strict=True):
            rows += _over_horizon(axes, quality, name, place, metric, styles[name], intervals)
            axes.set_title(title, loc="left", fontsize=7.5)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(visible=True)
        panels[0].set_ylabel(broken(name, LONGEST_LABEL))
    figure.supxlabel("frames ahead", fontsize=7.5)
    bands = _bands(quality, place, names)
    legend(figure, {}, extra=_dynamics_legend(quality, has_bands=bool(bands)))
    earlier = sorted({step for name in names for step in quality.steps(name, place)[:-1]})
    paler = (
        f" Paler: its weights after {listed([steps_text(step) for step in earlier])} steps."
        if earlier
        else ""
    )
    band = f" Band: {interval_note(bands, place)}."
    caption = (
        f"After {plural(quality.context, 'real frame')} the world model goes on alone with the recorded actions, the"
        f" likeliest token each time (dashed: drawn tokens).{paler}{band} Changed tokens: those"
        " that differ from the last real frame's; a copy gets none of them right."
    )
    title = quality_findings.dynamics(quality, place, names)
    return Drawing(identifier, title, caption, figure, rows, intervals=intervals)


def _bands(quality: Quality, place: Place, names: Sequence[str]) -> list[Interval]:
    """Return the intervals of all bands."""
    found = [
        _interval(quality, name, place, metric, max(quality.steps(name, place)), "greedy")
        for name in names
        for metric in DYNAMICS_METRICS
    ]
    return [interval for interval in found if interval]


def _interval(
    quality: Quality, name: str, place: Place, metric: str, step: int, mode: str
) -> Interval | None:
    """Return the intervals of a curve at its horizons."""
    curve = quality.curve(name, place, metric, mode, step)
    return quality.interval(name, place, metric, step, mode, curve["horizon"]) if curve else None


def _over_horizon(
    axes: Axes,
    quality: Quality,
    name: str,
    place: Place,
    metric: str,
    look: Look,
    intervals: dict[Line2D, list[Ends]],
) -> list[Row]:
    """Draw a panel and return its numbers; put the ends of the band into `intervals`."""
    *earlier, last = quality.steps(name, place)
    drawn: list[tuple[int, str, Record | None]] = []
    for index, step in enumerate(earlier):
        curve = quality.curve(name, place, metric, "greedy", step)
        _line(axes, curve, color=look.colour, linewidth=1.0, alpha=0.25 + 0.3 * index / len(earlier))
        drawn.append((step, "greedy", curve))
    for mode, (_, style) in REFERENCES.items():
        curve = quality.curve(name, place, metric, mode, last)
        _line(axes, curve, color=INK, linewidth=0.9, linestyle=style)
        drawn.append((last, mode, curve))
    sampled = quality.curve(name, place, metric, "sampled", last)
    _line(axes, sampled, color=look.colour, linewidth=1.0, linestyle="--")
    final = quality.curve(name, place, metric, "greedy", last)
    _line(axes, final, color=look.colour, linewidth=1.8, marker=look.marker, markersize=3.5)
    band = _interval(quality, name, place, metric, last, "greedy")
    if final and band:
        low, high = (
            np.array(ends, np.float64) for ends in (band.low, band.high)
        )  # None becomes NaN: no band
        axes.fill_between(final["horizon"], low, high, color=look.colour, alpha=0.2, linewidth=0)
        intervals[axes.lines[-1]] = list(zip(band.low, band.high, strict=True))
    drawn += [(last, "sampled", sampled), (last, "greedy", final)]
    return [
        {
            "place": place.label, "variant": name, "metric": metric, "env_step": step, "mode": mode, "horizon": horizon,
            "mean": mean, **cells,
        }
        for step, mode, curve in drawn
        if curve
        for horizon, mean, cells in zip(
            curve["horizon"], curve["mean"], _cells(quality, name, place, metric, step, mode, curve), strict=True
        )
    ]  # fmt: skip


def _cells(
    quality: Quality, name: str, place: Place, metric: str, step: int, mode: str, curve: Record
) -> list[dict[str, float | int | None]]:
    """Return what the CSV file says of the interval at each horizon."""
    found = quality.interval(name, place, metric, step, mode, curve["horizon"])
    return found.cells if found else [NO_INTERVAL] * len(curve["horizon"])


def _line(axes: Axes, curve: Record | None, **style: object) -> None:
    if curve:
        axes.plot(curve["horizon"], curve["mean"], **style)  # type: ignore[arg-type]


def _dynamics_legend(quality: Quality, *, has_bands: bool) -> dict[str, Line2D | Patch]:
    handles: dict[str, Line2D | Patch] = {
        "finished agent, likeliest tokens": Line2D(
            [], [], color=PALE, linewidth=1.8, marker="o", markersize=3.5
        ),
        "drawn tokens": Line2D([], [], color=PALE, linestyle="--"),
    }
    if any(len(quality.steps(name, place)) > 1 for name in quality.variants for place in quality.places):
        handles["earlier weights"] = Line2D([], [], color=PALE, linewidth=1.0, alpha=0.6)
    if has_bands:
        handles["95 % interval"] = Patch(color=PALE, alpha=0.4, linewidth=0)
    references = {
        label: Line2D([], [], color=INK, linewidth=0.9, linestyle=s) for label, s in REFERENCES.values()
    }
    return {**handles, **references}
