"""One look for every page: a colour and a marker for each variant, one way to write each kind of number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

BASELINE_COLOUR = "#5f6368"
COLOURS = (  # Okabe and Ito, then Tol
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#332288", "#882255", "#999933",
)  # fmt: skip
BASELINE_MARKER = "o"
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
INK, PALE, GRID, SHADE = "#202124", "#b8bcc2", "#e6e8eb", "#e3e5e8"
MM_PER_INCH = 25.4
MINUS = "\N{MINUS SIGN}"
MOST_TOLD = 4  # in one sentence
DASH = "\N{EN DASH}"
Summary = Mapping[str, Any]

RC: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0.7,  # hollow ones stay hollow
    "hatch.linewidth": 0.5,
    "hatch.color": "#9aa0a6",
    "text.parse_math": False,  # a name may hold `$`
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "irisflow",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """A variant's colour and marker, the same on every page."""

    colour: str
    marker: str


@contextmanager
def drawing_style() -> Iterator[None]:
    """Draw with the report's settings, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def looks(summary: Summary) -> dict[str, Look]:
    """Return each variant's look: the baseline is grey and round and comes first."""
    others = [name for name in variant_names(summary) if name != summary["study"]["baseline"]]
    chosen = {
        name: Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(others)
    }
    return {summary["study"]["baseline"]: Look(BASELINE_COLOUR, BASELINE_MARKER), **chosen}


def variant_names(summary: Summary) -> list[str]:
    """Return the variants in the order of every table and legend, the baseline first."""
    return [variant["name"] for variant in summary["study"]["variants"]]


def seeds_text(summary: Summary) -> str:
    """Return how many seeds the compared variants have: `5 seeds`, or `2 to 5 seeds`."""
    numbers = [len(seeds) for seeds in summary["block"]["runs"].values()]
    fewest, most = min(numbers, default=0), max(numbers, default=0)
    return plural(fewest, "seed") if fewest == most else f"{fewest} to {most} seeds"


def in_order(summary: Summary) -> Summary:
    """Return the summary with all that it keeps by variant or game in the study's order: JSON keeps the alphabet's."""
    names = [*variant_names(summary), *summary["study"]["games"]]
    places = {name: place for place, name in enumerate(names)}

    def ordered(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: ordered(value[key]) for key in sorted(value, key=lambda key: places.get(key, len(names)))
            }
        return [ordered(item) for item in value] if isinstance(value, list) else value

    # The world models' measurements are lists of records, and too many to go through.
    return {key: value if key == "world_model" else ordered(value) for key, value in summary.items()}


def inches(millimetres: float) -> float:
    """Return a length in inches, matplotlib's unit."""
    return millimetres / MM_PER_INCH


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals and a true minus sign, or a dash for None."""
    if value is None:
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS) if abs(value) >= 0.5 * 10**-digits else f"{0:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign, a zero without."""
    return f"+{number(value, digits)}" if value >= 0.5 * 10**-digits else number(value, digits)


def score(value: float | None) -> str:
    """Return a raw game score: one or two decimals where it is small, thousands separated."""
    if value is None:
        return DASH
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}".replace("-", MINUS)


def interval(estimate: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Return `0.501 [0.442, 0.565]`; without the brackets where there is no interval."""
    if not estimate:
        return DASH
    if estimate["low"] is None:
        return number(estimate["value"], digits)
    low, high = number(estimate["low"], digits), number(estimate["high"], digits)
    return f"{number(estimate['value'], digits)} [{low}, {high}]"


def p_value(p: float | None) -> str:
    """Return a p value with three decimals, `<0.001` below that."""
    if p is None:
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_statement(p: float) -> str:
    """Return `p = 0.040` or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def percent(share: float) -> str:
    """Return a share as whole percent."""
    return f"{number(100 * share, 0)} %"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def time_unit(longest_s: float) -> tuple[str, int]:
    """Return the unit in which the longest of some times reads well, and its seconds."""
    return next(
        (unit for unit in (("hours", 3600), ("minutes", 60)) if longest_s >= 2 * unit[1]), ("seconds", 1)
    )


def count(value: float) -> str:
    """Return a count with its thousands separated."""
    return f"{value:,.0f}"


def plural(quantity: int, noun: str) -> str:
    """Return `1 game`, `2 games`."""
    return f"{quantity} {noun}" if quantity == 1 else f"{quantity:,} {noun}s"


def listed(words: Sequence[str], most: int = 6) -> str:
    """Return words with commas, the last ones as a number where there are many."""
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"


def leaders(values: Mapping[str, float], digits: int = 3) -> list[str]:
    """Return the names of the greatest value, in their order: several where it is printed alike."""
    greatest = number(max(values.values()), digits)
    return [name for name, value in values.items() if number(value, digits) == greatest]


def several(parts: Sequence[tuple[float, str]], *, separator: str = ", ") -> str:
    """Join texts; of more than four, only those with the two greatest values and the least, and say how many lie between.

    Where more than four have one value, the first stands for all.
    """
    if len(parts) <= MOST_TOLD:
        return separator.join(text for _, text in parts)
    first, second, *between, last = sorted(parts, key=lambda part: -part[0])
    if first[0] == last[0]:
        return separator.join([first[1], f"the other {len(parts) - 1} the same"])
    return separator.join([first[1], second[1], f"{len(between)} in between", last[1]])


def each(values: Mapping[str, float], told: Callable[[float], str], *, separator: str = ", ") -> str:
    """Return what is told of each value behind its name, or once for all where several are told alike."""
    texts = {name: told(value) for name, value in values.items()}
    if len(texts) > 1 and len(set(texts.values())) == 1:
        return f"{next(iter(texts.values()))} for every variant"
    return several([(values[name], f"{name} {text}") for name, text in texts.items()], separator=separator)
