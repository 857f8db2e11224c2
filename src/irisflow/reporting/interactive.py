"""Figures that a browser can take apart: variants by class, and what a point says when the pointer is on it.

What belongs to a variant is recognised by its look, the same in every figure: colour and marker, or a colour that no
other variant has.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from irisflow.reporting.drawing import Drawing
from irisflow.reporting.style import Look

POINTS = 72.0  # an inch
PIXELS = 106.0  # an inch, in a browser: figures as wide as a printed page fill the column
REACH = 5.0  # points around a plotted one in which the pointer counts as on it
TAG = re.compile(r'<g id="(variant-\d+)(?:-\d+)?"')
IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)')


def tag(figure: Figure, styles: Mapping[str, Look]) -> None:
    """Name the artists of each variant, before the figure is saved: groups of the SVG are called so."""
    for artist in figure.findobj():
        place = _variant(artist, styles)
        if place is not None:
            artist.set_gid(f"variant-{place}")


def interactive_svg(drawing: Drawing, svg: str, styles: Mapping[str, Look]) -> str:
    """Return a saved figure to be put into a page: no name in it is used by another figure, and points tell their values."""
    body = svg[svg.index("<svg") :]
    body = TAG.sub(r'<g class="\1"', body)
    body = IDENTIFIER.sub(rf"\g<1>{drawing.identifier}-", body)
    points = "".join(_points(drawing.figure, styles))
    label = escape(f"{drawing.identifier}: {drawing.title}", quote=True)
    width = round(drawing.figure.get_figwidth() * PIXELS)
    body = body.replace("<svg", f'<svg role="img" aria-label="{label}" style="--natural: {width}px"', 1)
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


def _points(figure: Figure, styles: Mapping[str, Look]) -> Iterator[str]:
    """Yield a circle that cannot be seen for every plotted point of a variant; its title is what the browser shows."""
    names = list(styles)
    height = figure.get_figheight() * POINTS
    scale = POINTS / figure.dpi
    for axes in figure.axes:
        rows = _named_rows(axes)
        for line in axes.lines:
            place = _variant(line, styles)
            if place is None or line.get_marker() in ("None", "none", None, ""):
                continue
            plotted = np.asarray(line.get_xydata(), np.float64)
            drawn = np.asarray(line.get_transform().transform(plotted))
            for (x, y), (across, up) in zip(plotted.tolist(), drawn.tolist(), strict=True):
                text = escape(f"{names[place]}: {_told(rows, x, y)}")
                circle = f'<circle cx="{across * scale:.2f}" cy="{height - up * scale:.2f}" r="{REACH}"'
                yield f'{circle} class="variant-{place}"><title>{text}</title></circle>'


def _named_rows(axes: Axes) -> set[float]:
    """Return the heights at which the vertical axis has names instead of numbers."""
    labels = zip(axes.get_yticks(), axes.get_yticklabels(), strict=False)
    texts = {float(place): label.get_text() for place, label in labels}
    return {
        place for place, text in texts.items() if text and not re.fullmatch(r"[\N{MINUS SIGN}0-9.,k%]+", text)
    }


def _told(named_rows: set[float], x: float, y: float) -> str:
    """Return where a point lies: across only, if its row has a name."""
    return f"{x:.4g}" if y in named_rows else f"{y:.4g} at {x:.6g}"
