"""The world models' figures: tokenizer over training, prediction over the horizon, rewards and ends."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from irisflow.reporting import quality_findings
from irisflow.reporting.drawing import (
    WIDTH,
    Drawing,
    Ends,
    Row,
    grid_of_axes,
    legend,
    name_rows,
    steps_text,
)
from irisflow.reporting.dynamics import draw_dynamics
from irisflow.reporting.ends import PREDICTED, draw_ends
from irisflow.reporting.quality import NO_INTERVAL, Interval, Place, Quality, Record, quality_of
from irisflow.reporting.style import INK, PALE, Look, Summary, inches, looks

TOKENIZER_METRICS = {
    "psnr": "PSNR in dB",
    "ssim": "SSIM",
    "small_object_recall": "small objects drawn",
    "perplexity": "codebook perplexity",
    "usage": "codebook in use",
}
TOKEN_SHARE = "token_share"
OBJECTS = (
    " Small objects: what moves and covers at most 1/256 of the frame, such as a ball or a shot; drawn: reconstructions show"
    " it where and when it is, and neither 4 steps earlier nor later."
)
HEAD_METRICS: dict[str, tuple[str, int | None]] = {
    "reward \N{MINUS SIGN}1: recall": ("reward_recall", -1),
    "reward 0: recall": ("reward_recall", 0),
    "reward +1: recall": ("reward_recall", 1),
    "reward: macro-F1": ("reward_macro_f1", None),
    "no end: recall": ("end_recall", 0),
    "end: recall": ("end_recall", 1),
    "end: average precision": ("end_average_precision", None),
}
MANY = 6  # variants; the table below them stays on the page
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST_ROWS = 4  # of panels in a figure of F14


def draw_quality(summary: Summary) -> list[Drawing]:
    """Return F13 (tokenizer), F14 (dynamics; F14a, ... for games, where they are few, and variants), F16 and F25 (heads)."""
    quality, styles = quality_of(summary), looks(summary)
    drawings = [draw_tokenizer(quality, styles)]
    if quality.curves:
        parts = [(place, names) for place in quality.places for names in _few(quality.measured(place))]
        drawings += [
            draw_dynamics(quality, styles, place, names, "F14" if len(parts) == 1 else f"F14{letter}")
            for (place, names), letter in zip(parts, LETTERS, strict=False)
        ]
    drawings.append(draw_heads(quality, styles))
    return [*drawings, draw_ends(quality, styles)] if PREDICTED in quality.metrics else drawings


def _few(names: list[str]) -> list[list[str]]:
    """Return the names in parts of about the same length that a figure has room for."""
    num_parts = -(-len(names) // MOST_ROWS)
    size = -(-len(names) // max(1, num_parts))
    return [names[first : first + size] for first in range(0, len(names), size)] if names else []


def draw_tokenizer(quality: Quality, styles: Mapping[str, Look]) -> Drawing:
    """Return F13: reconstruction and use of the codebook, over the steps of training."""
    shown = {metric: title for metric, title in TOKENIZER_METRICS.items() if metric in quality.metrics}
    has_codes = TOKEN_SHARE in quality.metrics
    height = 42 if len(quality.places) == 1 else 24
    figure, grid = grid_of_axes(quality.places, len(shown) + has_codes, row_height=height)
    rows: list[Row] = []
    intervals: dict[Line2D, list[Ends]] = {}
    for place, panels in zip(quality.places, grid, strict=True):
        for axes, (metric, title) in zip(panels, shown.items(), strict=False):
            for name in quality.measured(place):
                line, ends, told = _over_training(axes, quality, name, place, metric, styles[name])
                intervals[line], rows = ends, rows + told
            axes.set_title(title, loc="left", fontsize=7.5)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
            axes.grid(visible=True)
        if has_codes:
            rows += _codes_panel(panels[-1], quality, styles, place)
        panels[0].set_ylabel(place.label, fontsize=7.5)
    top = " (last panel: number of codes, the most frequent ones)" if has_codes else ""
    figure.supxlabel(f"environment steps, those of recorded pretraining data included{top}", fontsize=7.5)
    even = {"codebook used evenly": Line2D([], [], color=INK, linewidth=0.9, linestyle=":")}
    legend(figure, {name: styles[name] for name in quality.variants}, extra=even if has_codes else None)
    caption = (
        "Held-out episodes, the same for all runs of a game. Mean over seeds; bars from the least to the greatest seed."
        " Perplexity: exp of the entropy of the codes; it and the share in use grow with the number of frames."
        f"{' Top codes: of finished weights.' if has_codes else ''}{OBJECTS if 'small_object_recall' in shown else ''}"
    )
    return Drawing("F13", quality_findings.tokenizer(quality), caption, figure, rows, intervals=intervals)


def _codes_panel(axes: Axes, quality: Quality, styles: Mapping[str, Look], place: Place) -> list[Row]:
    """Draw the share of tokens that the most frequent codes have, and an even codebook's for each size of codebook."""
    rows: list[Row] = []
    sizes = set()
    for name in quality.measured(place):
        step, look = max(quality.steps(name, place)), styles[name]
        found = quality.by_class(name, place, TOKEN_SHARE, step)
        if found:
            sizes.add(max(found))
            shares = [record["mean"] for record in found.values()]
            axes.plot(list(found), shares, color=look.colour, marker=look.marker, markersize=3.5)
        for num_codes, record in found.items():
            row = _tokenizer_row(place, name, TOKEN_SHARE, step, record, num_codes)
            rows.append(row | _interval_cells(None))
    for size in sorted(sizes):
        even = np.geomspace(1, size, 64)
        axes.plot(even, even / size, color=INK, linewidth=0.9, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_title("tokens of the top codes", loc="left", fontsize=7.5)
    axes.xaxis.set_major_locator(LogLocator(base=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
    axes.set_ylim(-0.03, 1.05)
    axes.grid(visible=True)
    return rows


def _over_training(
    axes: Axes, quality: Quality, name: str, place: Place, metric: str, look: Look
) -> tuple[Line2D, list[Ends], list[Row]]:
    """Return the line, the ends of its points' intervals, and the plotted numbers."""
    steps = quality.steps(name, place)
    found = {step: record for step in steps if (record := quality.scalar(name, place, metric, step))}
    (line,) = axes.plot(
        list(found), [record["mean"] for record in found.values()], color=look.colour, marker=look.marker
    )
    for step, record in found.items():
        if record["least"] is not None:
            axes.vlines(
                step, record["least"], record["greatest"], color=look.colour, linewidth=2.5, alpha=0.4
            )
    intervals = [quality.interval(name, place, metric, step) for step in found]
    ends = [(each.low[0], each.high[0]) if each else (None, None) for each in intervals]
    rows = [_tokenizer_row(place, name, metric, step, record) for step, record in found.items()]
    return line, ends, [row | _interval_cells(each) for row, each in zip(rows, intervals, strict=True)]


def _interval_cells(found: Interval | None) -> Row:
    """Return what a CSV file says of an interval; the number of seeds is that of the mean."""
    cells = found.cells[0] if found else NO_INTERVAL
    return {key: cells[key] for key in ("low", "high", "num_stretches")}


def _tokenizer_row(
    place: Place, name: str, metric: str, step: int, record: Record, num_codes: int | None = None
) -> Row:
    numbers = {key: record[key] for key in ("mean", "least", "greatest", "num_seeds")}
    return {
        "place": place.label, "variant": name, "metric": metric, "env_step": step, "num_codes": num_codes, **numbers,
    }  # fmt: skip


def draw_heads(quality: Quality, styles: Mapping[str, Look]) -> Drawing:
    """Return F16: how well rewards and ends are told, before (hollow) and after training."""
    names = list(HEAD_METRICS)
    height = 24 + len(names) * (5 + 2.6 * len(quality.variants))
    height = min(height, 88.0 if len(quality.variants) <= MANY else 73.0)
    figure = Figure(figsize=(inches(WIDTH), inches(height)), layout="constrained")
    panels = figure.subplots(1, len(quality.places), squeeze=False, sharey=True)[0]
    rows: list[Row] = []
    offsets = np.linspace(-0.26, 0.26, len(quality.variants)) if len(quality.variants) > 1 else [0.0]
    for place, axes in zip(quality.places, panels, strict=True):
        for row, (label, (metric, of_class)) in enumerate(HEAD_METRICS.items()):
            for offset, name in zip(offsets, quality.measured(place), strict=False):
                found = _change(quality, name, place, metric, of_class)
                _dumbbell(axes, row + offset, found, styles[name])
                rows += [
                    {
                        "place": place.label,
                        "variant": name,
                        "measure": label,
                        "env_step": step,
                        "value": record["mean"],
                    }
                    for step, record in found.items()
                ]
        _base_rate(axes, quality, place, len(names) - 1)
        _mark_absent(axes, names, {row["measure"] for row in rows if row["place"] == place.label})
        axes.set_title(place.label, loc="left", fontsize=7.5)
        name_rows(axes, names)
        axes.set_xlim(-0.03, 1.03)
    extra: dict[str, Line2D | Patch] = {
        "first weights": Line2D([], [], color=PALE, marker="o", markerfacecolor="white", linestyle="none"),
        "finished agent": Line2D([], [], color=PALE, marker="o", linestyle="none"),
        "base rate of ends": Line2D([], [], color=INK, marker="|", markersize=10, linestyle="none"),
    }
    legend(figure, {name: styles[name] for name in quality.variants}, extra=extra)
    caption = (
        "After each held-out step, given the real past; mean over seeds. Recall: share of the steps of a class that are"
        " told. Average precision of a predictor without skill is the base rate (the upright tick)."
    )
    return Drawing("F16", quality_findings.heads(quality), caption, figure, rows)


def _change(
    quality: Quality, name: str, place: Place, metric: str, of_class: int | None
) -> dict[int, Record]:
    """Return the records of the first and the last weights that were measured."""
    steps = quality.steps(name, place)
    found = {step: quality.scalar(name, place, metric, step, of_class) for step in (steps[0], steps[-1])}
    return {step: record for step, record in found.items() if record}


def _dumbbell(axes: Axes, y: float, found: Mapping[int, Record], look: Look) -> None:
    values = [record["mean"] for _, record in sorted(found.items())]
    if len(values) > 1:
        axes.plot(values, [y, y], color=look.colour, linewidth=1.0, alpha=0.6)
        axes.plot(values[:1], [y], look.marker, color=look.colour, markerfacecolor="white")
    axes.plot(values[-1:], [y] * len(values[-1:]), look.marker, color=look.colour)


def _base_rate(axes: Axes, quality: Quality, place: Place, row: int) -> None:
    for name in quality.measured(place):
        base = quality.scalar(name, place, "end_base_rate", max(quality.steps(name, place)))
        if base:
            axes.plot([base["mean"]], [row], "|", color=INK, markersize=16)


def _mark_absent(axes: Axes, names: Sequence[str], drawn: set[str]) -> None:
    for row, label in enumerate(names):
        if label not in drawn:
            axes.text(
                0.5, row, "does not occur in the held-out episodes", ha="center", va="center", fontsize=6.5
            )
