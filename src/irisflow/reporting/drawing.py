"""What several figures are made of: panels, whiskers, bands, reference lines, legends."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from irisflow.reporting.style import INK, Look, Summary, drawing_style, inches, looks, score

WIDTH = 267.0  # millimetres between the margins of A4 landscape
LEGEND_KEY, LEGEND_LETTER = 36.0, 4.2  # points that an entry's key with its gaps, and a letter, take at most
MANY_ROWS = 8
Row = dict[str, Any]
Ends = tuple[float | None, float | None]


@dataclass(frozen=True)
class Dot:
    """One run among the points of a line: which it is, and its score as text."""

    variant: str
    game: str
    seed: int
    score: str

    @property
    def words(self) -> str:
        """What a reader is told who points at it."""
        return f"{self.variant}, {self.game}, seed {self.seed}: {self.score}"


def dots_of(variant: str, game: str, seeds: Mapping[str, float]) -> list[Dot]:
    """Return a dot for each run of a variant in a game, by its raw score."""
    return [Dot(variant, game, int(seed), score(value)) for seed, value in seeds.items()]


@dataclass
class Drawing:
    """A figure, its finding and caption, and the plotted numbers.

    `dots` names the runs that the points of some lines stand for, `intervals` the ends of their intervals, in the order of
    the points.
    """

    identifier: str
    title: str
    caption: str
    figure: Figure
    rows: list[Row]
    dots: dict[Line2D, list[Dot]] = field(default_factory=dict)
    intervals: dict[Line2D, list[Ends]] = field(default_factory=dict)


def save(drawing: Drawing, folder: Path) -> None:
    """Write a drawing as SVG, PNG and CSV; the same summary gives the same bytes.

    The canvases are called by themselves, as `Figure.savefig` draws each figure once more before it does.
    """
    stem, figure = folder / drawing.identifier, drawing.figure
    with drawing_style():
        vectors: Any = FigureCanvasSVG(figure)
        vectors.print_svg(f"{stem}.svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out now, and that takes as long as to draw it
        figure.set_dpi(rcParams["savefig.dpi"])
        pixels: Any = FigureCanvasAgg(figure)
        pixels.print_png(f"{stem}.png", metadata={"Software": None})
    Path(f"{stem}.csv").write_text(rows_as_csv(drawing.rows), encoding="utf-8")


def rows_as_csv(rows: Sequence[Row]) -> str:
    """Return the plotted numbers as CSV text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def row_of_axes(figure: Figure, num_columns: int, *, sharey: bool) -> list[Axes]:
    return list(figure.subplots(1, num_columns, sharey=sharey, squeeze=False)[0])


def grid_of_axes(
    rows: Sequence[object], num_columns: int, *, row_height: float
) -> tuple[Figure, list[list[Axes]]]:
    """Return a grid whose columns share their y axis."""
    height = min(138.0, 16 + row_height * len(rows))  # a long title and the caption fit on the page, too
    figure = Figure(figsize=(inches(WIDTH), inches(height)), layout="constrained")
    cells = figure.subplots(len(rows), num_columns, squeeze=False, sharey="col")
    return figure, [list(row) for row in cells]


def panel_grid(names: list[str], *, row_height: float = 80) -> tuple[Figure, dict[str, Axes]]:
    """Return a grid with one small panel for each name; one row of them is `row_height` mm high."""
    num_columns = min(len(names), 3 if len(names) <= 6 else 5 if len(names) <= 15 else 7)
    num_rows = -(-len(names) // num_columns)
    height = {1: row_height, 2: 122}.get(num_rows, 142)
    width = min(WIDTH, 130.0 * num_columns)
    figure = Figure(figsize=(inches(width), inches(height)), layout="constrained")
    cells = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes in cells[len(names) :]:
        axes.set_visible(False)
    found = dict(zip(names, cells, strict=False))
    for name, axes in found.items():
        axes.set_title(name, loc="left", fontsize=7.5)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(score_text))
        axes.grid(visible=True, axis="y")
        axes.tick_params(labelsize=6 if num_columns > 5 else 7)
    return figure, found


def score_text(value: float, _: object = None) -> str:
    """Return an axis label: 12k for 12,000."""
    text = f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{round(value, 6):g}"
    return text.replace("-", "\N{MINUS SIGN}")


def steps_text(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def whisker(
    axes: Axes, place: float, estimate: Mapping[str, Any], look: Look, *, is_hollow: bool = False
) -> None:
    """Draw a point with its interval (thick) and, where there is one, the interval over games too (thin)."""
    if estimate.get("games_low") is not None:
        axes.hlines(
            place, estimate["games_low"], estimate["games_high"], color=look.colour, linewidth=0.8, alpha=0.6
        )
    if estimate["low"] is not None:
        axes.hlines(place, estimate["low"], estimate["high"], color=look.colour, linewidth=3.2, alpha=0.45)
    face = "white" if is_hollow else look.colour
    axes.plot(
        [estimate["value"]], [place], look.marker, color=look.colour, markerfacecolor=face, markersize=5.5
    )


def row_height(number_of: int, usual: float) -> float:
    """Return the millimetres of a variant's row; less where there are many, so that their table stays on the page."""
    return usual if number_of <= MANY_ROWS else 3.9


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def label_on(axes: Axes, x: float, y: float, words: str, colour: str) -> Text:
    """Write on a filled area, and return, a text in the ink that stands out from it; its box keeps hatches away."""
    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.0}
    return axes.text(x, y, words, ha="center", va="center", fontsize=7, color=ink_on(colour), bbox=box)


def ink_on(colour: str) -> str:
    """Return the colour of a text that stands out from an area of a colour."""
    red, green, blue = to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def banded_line(
    axes: Axes,
    places: np.ndarray,
    points: Sequence[Mapping[str, Any]],
    look: Look,
    *,
    marker_every: int | tuple[int, int],
) -> None:
    values = [point["value"] for point in points]
    axes.plot(places, values, color=look.colour, marker=look.marker, markevery=marker_every, markersize=4)
    if points[0]["low"] is not None:
        low, high = [point["low"] for point in points], [point["high"] for point in points]
        axes.fill_between(places, low, high, color=look.colour, alpha=0.18, linewidth=0)


def staggered(index: int, of: int, every: int) -> tuple[int, int]:
    """Return at which points one of several lines has markers: its own, not those of the line beside it."""
    return index * every // of, every


def reference_lines(axes: Axes, scale: Mapping[str, Any] | None) -> None:
    """Draw the reference scores that lie inside the panel, or near enough to be worth the room."""
    if scale is None:
        return
    low, high = axes.get_ylim()
    margin = 0.35 * (high - low)
    for value in (scale["random"], scale["best"]):
        if low - margin <= value <= high + margin:
            axes.axhline(value, color=INK, linewidth=0.8, linestyle=":")


def legend(
    figure: Figure, styles: Mapping[str, Look], *, extra: Mapping[str, Line2D | Patch] | None = None
) -> None:
    """Draw the variants' looks, and whatever else a figure shows, above its panels."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5, label=name)
        for name, look in styles.items()
    ]
    for name, handle in (extra or {}).items():
        handle.set_label(name)
        handles.append(handle)
    widths = [LEGEND_KEY + LEGEND_LETTER * len(str(handle.get_label())) for handle in handles]
    columns = _legend_columns(widths, figure.get_figwidth() * 72)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def _legend_columns(widths: Sequence[float], room: float) -> int:
    """Return in how many columns a legend's entries fit, with as few rows and then as few columns as can be."""

    def fits(columns: int) -> bool:
        return bool(sum(max(column) for column in np.array_split(widths, columns)) <= room)

    fitting = [columns for columns in range(1, len(widths) + 1) if fits(columns)]
    if not fitting:
        return 1
    num_rows = -(-len(widths) // fitting[-1])
    return next(columns for columns in fitting if -(-len(widths) // columns) == num_rows)


def broken(name: str, most: int = 16) -> str:
    """Return a variant's name broken at underscores into lines of at most `most` letters where that can be."""
    lines = [""]
    for part in name.replace("_", "_\n").split("\n"):
        if lines[-1] and len(lines[-1] + part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def mark_pretraining(axes: Axes, summary: Summary) -> None:
    """Draw a dashed line where the recorded pretraining steps of a variant end."""
    for name, steps in summary["curves"]["pretraining_env_steps"].items():
        if steps:
            axes.axvline(steps, color=looks(summary)[name].colour, linewidth=0.9, linestyle="--")
