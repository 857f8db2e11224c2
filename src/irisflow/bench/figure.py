"""The roofline picture: arithmetic intensity against rate, the measured roof, a labelled point for each phase. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from irisflow.bench.roofline import Peaks, roof
from irisflow.errors import ConfigError, ResourceError
from irisflow.reporting.style import BASELINE_COLOUR, COLOURS, INK, drawing_style

Row = Mapping[str, Any]
SUFFIXES = (".png", ".svg", ".pdf")
COLOUR_OF = {"arithmetic": COLOURS[0], "memory": COLOURS[2], "both": COLOURS[3], "overhead": COLOURS[1]}
DISTANCES = (7.0, 13.0, 20.0, 28.0, 37.0, 47.0, 58.0, 70.0, 85.0)  # points between a mark and its label
LABEL_SIZE, MARGIN = 7, 2  # points; pixels around a label that stay empty
ANGLES = (0, 180, 20, -20, 160, -160, 45, -45, 135, -135, 70, -70, 110, -110)


def check_name(path: Path) -> None:
    """Raise ConfigError for a file that no picture can be written to, before anything is measured."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--figure {path}: allowed: a name that ends with {', '.join(SUFFIXES)}.")


def write_figure(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a result. Raises ResourceError where that cannot be done."""
    with drawing_style():
        figure = draw(result)
        try:
            figure.savefig(path, dpi=200)
        except OSError as error:
            raise ResourceError(
                f"--figure {path}: {error.strerror}. Name a file in a folder that exists."
            ) from None


def draw(result: Mapping[str, Any]) -> Figure:
    """Return the picture of a result."""
    rows = [row for row in result["phases"] if row["fast"]["flops"] and row["fast"]["bytes"]]
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    peaks = _peaks(result)
    points = [(row["fast"]["flops_per_byte"], _rate(row)) for row in rows]
    _frame(axes, points, peaks)
    lines = _roof(axes, peaks)
    for (intensity, rate), row in zip(points, rows, strict=True):
        axes.plot(intensity, rate, "o", color=COLOUR_OF[row["fast"]["roofline"]["bound"]], zorder=3)
    axes.set_title(_title(result), loc="left", color=INK)
    _legend(axes, rows)
    figure.supxlabel(_left_out(result, rows), fontsize=6.5, color=BASELINE_COLOUR, x=0.01, ha="left")
    figure.draw_without_rendering()  # lays the axes out, so that places in pixels are known
    figure.set_layout_engine("none")
    _label(axes, points, [_name(row) for row in rows], lines)
    return figure


def _peaks(result: Mapping[str, Any]) -> Peaks:
    measured = result["peaks"]
    return Peaks(
        measured["matmul_gflops_per_s"],
        measured["convolution_used_gflops_per_s"],
        measured["copy_gb_per_s"],
    )


def _rate(row: Row) -> float:
    """Return GFLOP/s."""
    return float(row["fast"]["flops"] / row["fast"]["seconds"]["median"] / 1e9)


def _name(row: Row) -> str:
    return f"{row['phase'].replace('_', ' ')}, {row['fast']['roofline']['fraction']:.0%}"


def _frame(axes: Axes, points: Sequence[tuple[float, float]], peaks: Peaks) -> None:
    """Set logarithmic axes around the points and the roof's ridge, with room for labels."""
    ridge = max(peaks.matmul, peaks.convolution) / peaks.copy
    intensities, rates = zip(*points, (ridge, peaks.matmul), strict=True)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(intensities) / 4, max(intensities) * 6)
    axes.set_ylim(min(rates) / 2, max(peaks.matmul, peaks.convolution, *rates) * 2)
    axes.set_xlabel("arithmetic intensity (FLOP a byte)")
    axes.set_ylabel("GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.grid(True, which="major")


def _roof(axes: Axes, peaks: Peaks) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the roof and the rate of convolutions with their names; return both lines' points."""
    intensities = np.geomspace(*axes.get_xlim(), 400)
    product_roof = np.array([roof(each, peaks) for each in intensities])
    convolution_roof = np.minimum(peaks.convolution, peaks.copy * intensities)
    axes.plot(intensities, product_roof, color=INK, linewidth=1.4)
    axes.plot(intensities, convolution_roof, color=INK, linewidth=1.0, linestyle="--")
    left, lowest = axes.get_xlim()[0], axes.get_ylim()[0]
    start = max(left, lowest / peaks.copy) * 1.15
    is_higher = peaks.convolution > peaks.matmul
    for rate, name, above in (
        (peaks.matmul, "matrix product", not is_higher),
        (peaks.convolution, "convolution", is_higher),
    ):
        axes.annotate(
            f"{name} {rate:.0f} GFLOP/s", (axes.get_xlim()[1], rate), (-3, 3 if above else -3), textcoords="offset points",
            ha="right", va="bottom" if above else "top", fontsize=LABEL_SIZE,
        )  # fmt: skip
    axes.annotate(
        f"copy {peaks.copy:.1f} GB/s",
        (start, peaks.copy * start),
        (8, 0),
        textcoords="offset points",
        va="top",
        fontsize=LABEL_SIZE,
    )
    return [(intensities, product_roof), (intensities, convolution_roof)]


def _legend(axes: Axes, rows: Sequence[Row]) -> None:
    """Say what the colours mean, for those that occur."""
    present = [bound for bound in COLOUR_OF if any(row["fast"]["roofline"]["bound"] == bound for row in rows)]
    marks = [Line2D([], [], marker="o", linestyle="", color=COLOUR_OF[bound]) for bound in present]
    names = {"both": "arithmetic and memory in turn"}
    axes.legend(marks, [f"bound by {names.get(bound, bound)}" for bound in present], loc="lower right")


def _title(result: Mapping[str, Any]) -> str:
    return (
        f"{result['variant']} at scale {result['scale']} on {result['machine']['processor']}"
        f" ({result['device']}, {result['threads']} threads); percent: of the roof for its mix of arithmetic"
    )


def _left_out(result: Mapping[str, Any], drawn: Sequence[Row]) -> str:
    names = [row["phase"].replace("_", " ") for row in result["phases"] if row not in drawn]
    return f"Not drawn, without counted arithmetic or bytes: {', '.join(names)}" if names else ""


def _label(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    lines: Sequence[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Write each name at the nearest place beside its point that nothing else takes; a thin line leads there."""
    to_pixels = axes.transData.transform
    marks = [to_pixels(point) for point in points]
    occupied = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in marks]
    occupied += [text.get_window_extent() for text in axes.texts]
    if (legend := axes.get_legend()) is not None:
        occupied.append(legend.get_window_extent())
    roofs = [to_pixels(np.column_stack(line)) for line in lines]
    for index in np.argsort([-mark[1] for mark in marks]):
        box = _written(axes, points[index], names[index], occupied, roofs)
        occupied.append(box)


def _written(
    axes: Axes, point: tuple[float, float], name: str, occupied: Sequence[Bbox], roofs: Sequence[np.ndarray]
) -> Bbox:
    """Write a name at the first free place, or, if all are taken, at the first one; return the place that it takes."""
    size = _size(axes, name)
    places = [(offset, alignment, _box(axes, point, offset, size)) for offset, alignment in _offsets()]
    free = (place for place in places if _is_free(place[2], axes, occupied, roofs))
    offset, alignment, box = next(free, places[0])
    axes.annotate(
        name, point, offset, textcoords="offset points", ha=alignment, va="center", fontsize=LABEL_SIZE,
        arrowprops={"arrowstyle": "-", "color": BASELINE_COLOUR, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2},
    )  # fmt: skip
    return box


def _size(axes: Axes, name: str) -> tuple[float, float]:
    """Return width and height of a name in pixels."""
    text = axes.text(0.5, 0.5, name, transform=axes.transAxes, fontsize=LABEL_SIZE)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _box(
    axes: Axes, point: tuple[float, float], offset: tuple[float, float], size: tuple[float, float]
) -> Bbox:
    """Return what a label takes at an offset in points from its point: it goes away from the point, sideways."""
    pixels_a_point = axes.figure.dpi / 72
    x, y = axes.transData.transform(point) + np.array(offset) * pixels_a_point
    left = x if offset[0] >= 0 else x - size[0]
    return Bbox.from_bounds(left, y - size[1] / 2, *size).padded(MARGIN)


def _is_free(box: Bbox, axes: Axes, occupied: Sequence[Bbox], roofs: Sequence[np.ndarray]) -> bool:
    inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
    return inside and not box.count_overlaps(occupied) and not any(_crosses(box, line) for line in roofs)


def _offsets() -> Iterator[tuple[tuple[float, float], str]]:
    """Yield places around a point in points, the near ones first, and how text is aligned there."""
    for distance, angle in product(DISTANCES, ANGLES):
        x, y = distance * np.cos(np.radians(angle)), distance * np.sin(np.radians(angle))
        yield (float(x), float(y)), "left" if x >= 0 else "right"


def _crosses(box: Bbox, line: np.ndarray) -> bool:
    return bool(
        np.any((line[:, 0] > box.x0) & (line[:, 0] < box.x1) & (line[:, 1] > box.y0) & (line[:, 1] < box.y1))
    )
