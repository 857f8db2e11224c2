"""Figures that a browser can take apart: variants by class, and what a point says when the pointer is on it.

What belongs to a variant is recognised by its look, the same in every figure: colour and marker, or a colour that no
other variant has.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from urllib.parse import quote

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from irisflow.reporting.drawing import Drawing, Ends
from irisflow.reporting.style import Look

POINTS = 72.0  # an inch
PIXELS = 106.0  # an inch, in a browser: figures as wide as a printed page fill the column
REACH = 5.0  # points around a plotted one in which the pointer counts as on it
TAG = re.compile(r'<g id="(variant-\d+)(?:-\d+)?"')
NUMBER = re.compile(r"[\N{MINUS SIGN}0-9.,k%]+")
IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)')
NO_ENDS: Ends = (None, None)
Key = tuple[str, str, int]


def tag(figure: Figure, styles: Mapping[str, Look]) -> None:
    """Name the artists of each variant, before the figure is saved: groups of the SVG are called so."""
    for artist in figure.findobj():
        place = _variant(artist, styles)
        if place is not None:
            artist.set_gid(f"variant-{place}")


def interactive_svg(
    drawing: Drawing, svg: str, styles: Mapping[str, Look], folders: Mapping[Key, str] | None = None
) -> str:
    """Return a saved figure to be put into a page: no name in it is used by another figure, and points tell their values.

    A point that is a run is a link to the run's folder, where `folders` has one: relative to the page.
    """
    body = svg[svg.index("<svg") :]
    body = TAG.sub(r'<g class="\1"', body)
    body = IDENTIFIER.sub(rf"\g<1>{drawing.identifier}-", body)
    points = "".join(_points(drawing, styles, folders or {}))
    label = escape(f"{drawing.identifier}: {drawing.title}", quote=True)
    width = round(drawing.figure.get_figwidth() * PIXELS)
    role = "group" if "<a " in points else "img"  # what is in an image cannot be reached by keyboard
    body = body.replace("<svg", f'<svg role="{role}" aria-label="{label}" style="--natural: {width}px"', 1)
    return body.replace("</svg>", f'<g class="points">{points}</g></svg>')


def _variant(artist: Artist, styles: Mapping[str, Look]) -> int | None:
    """Return the place of the variant that an artist belongs to."""
    if isinstance(artist, Line2D):
        shown = Look(to_hex(artist.get_color()), str(artist.get_marker()))
        exact = [index for index, look in enumerate(styles.values()) if look == shown]
        return exact[0] if exact else _by_colour(shown.colour, styles)
    if isinstance(artist, Collection):
        colours = {to_hex(colour) for colour in (*artist.get_edgecolor(), *artist.get_facecolor())}
        return _by_colour(colours.pop(), styles) if len(colours) == 1 else None
    if isinstance(artist, Patch):
        return _by_colour(to_hex(artist.get_facecolor()), styles)
    return None


def _by_colour(colour: str, styles: Mapping[str, Look]) -> int | None:
    """Return the place of the only variant with a colour."""
    numbers = Counter(look.colour for look in styles.values())
    places = [index for index, look in enumerate(styles.values()) if look.colour == colour]
    return places[0] if numbers[colour] == 1 else None


def _points(drawing: Drawing, styles: Mapping[str, Look], folders: Mapping[Key, str]) -> Iterator[str]:
    """Yield a circle that cannot be seen for every plotted point of a variant; its title is what the browser shows."""
    figure, names = drawing.figure, list(styles)
    height = figure.get_figheight() * POINTS
    scale = POINTS / figure.dpi
    for axes in figure.axes:
        labels = _row_labels(axes)
        for line in axes.lines:
            place = _variant(line, styles)
            if place is None or line.get_marker() in ("None", "none", None, ""):
                continue
            plotted = np.asarray(line.get_xydata(), np.float64)
            drawn = np.asarray(line.get_transform().transform(plotted))
            dots = drawing.dots.get(line, [None] * len(plotted))
            ends = drawing.intervals.get(line, [NO_ENDS] * len(plotted))
            for (x, y), (across, up), dot, pair in zip(
                plotted.tolist(), drawn.tolist(), dots, ends, strict=True
            ):
                text = (
                    dot.words
                    if dot
                    else f"{names[place]}: {_told(labels, x, y, names[place])}{_interval(pair)}"
                )
                circle = f'<circle cx="{across * scale:.2f}" cy="{height - up * scale:.2f}" r="{REACH}"'
                folder = folders.get((dot.variant, dot.game, dot.seed)) if dot else None
                yield _point(circle, f'class="variant-{place}"', text, folder)


def _point(circle: str, kind: str, text: str, folder: str | None) -> str:
    title = f"<title>{escape(text)}</title>"
    if folder is None:
        return f"{circle} {kind}>{title}</circle>"
    address = escape(quote(f"{folder}/"), quote=True)
    return f'<a {kind} href="{address}">{title}{circle}/></a>'


def _row_labels(axes: Axes) -> dict[float, str]:
    """Return the names that rows of the axes have, by place; numbers are no names."""
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=False)
    labels = {float(place): label.get_text() for place, label in ticks}
    return {place: label for place, label in labels.items() if label and not NUMBER.fullmatch(label)}


def _told(labels: Mapping[float, str], x: float, y: float, name: str) -> str:
    """Return where a point lies: where rows have names, its value and the row's name, unless that is the variant's own."""
    if not labels:
        return f"{y:.4g} at {x:.6g}"
    row = labels[min(labels, key=lambda place: abs(place - y))]
    return f"{x:.4g}" if row == name else f"{x:.4g} ({row})"


def _interval(ends: Ends) -> str:
    low, high = ends
    return "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
