"""Which place each variant takes among all: the distribution of its rank, as the parts of a bar."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from irisflow.reporting.drawing import WIDTH, Drawing, Row, label_on, name_rows
from irisflow.reporting.style import (
    Summary,
    inches,
    leaders,
    number,
    percent,
    plural,
    seeds_text,
    several,
    variant_names,
)

DARK, LIGHT = np.array((23, 64, 109)) / 255, np.array((238, 242, 246)) / 255  # the first and the last rank
LEAST_LABELLED = 0.045


def draw_ranks(summary: Summary) -> Drawing:
    """Return F18: for each variant the chance of each rank, when one run of every variant is drawn."""
    ranks = summary["ranks"]
    names = [name for name in variant_names(summary) if name in ranks]
    figure = Figure(figsize=(inches(WIDTH), inches(ranks_height(len(names)))), layout="constrained")
    axes = figure.subplots()
    shares = np.array([ranks[name]["shares"] for name in names])
    places = [variant_names(summary).index(name) for name in names]
    for rank, (colour, starts) in enumerate(zip(_shades(len(names)), _starts(shares), strict=True)):
        _bars(axes, starts, shares[:, rank], colour, f"rank {rank + 1}", places)
    for row, name in enumerate(names):
        words = f"mean {number(ranks[name]['mean'], 2)}"
        axes.annotate(words, (1.005, row), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    name_rows(axes, names)
    axes.set(xlim=(0, 100), xlabel="share of draws, %")
    figure.legend(loc="outside upper left", ncols=min(len(names), 11), columnspacing=1.2, handlelength=1.4)
    rows: list[Row] = [
        {"variant": name, "rank": rank, "share": share, "mean_rank": ranks[name]["mean"]}
        for name in names
        for rank, share in enumerate(ranks[name]["shares"], start=1)
    ]
    block = summary["block"]
    caption = (
        f"One run of every variant is drawn and they are sorted, game by game; rank 1 is best. All draws of"
        f" {seeds_text(summary)} are counted, each of the {plural(len(block['games']), 'game')} alike; runs"
        " that tie share their ranks. Raw scores. No test."
    )
    return Drawing("F18", ranks_finding(summary), caption, figure, rows)


def ranks_height(num_variants: int) -> float:
    """Return how high F18 is, in millimetres."""
    return 20 + 4.4 * num_variants


def ranks_finding(summary: Summary) -> str:
    """Return which variant takes the best rank on average, and how often the first."""
    means = {name: record["mean"] for name, record in summary["ranks"].items()}
    first = {name: record["shares"][0] for name, record in summary["ranks"].items()}
    best = leaders({name: -mean for name, mean in means.items()}, digits=2)
    if len(best) == len(means):
        return f"No variant ranks above another: the mean rank of all is {number(means[best[0]], 2)}."
    if len(best) > 1:
        return f"{' and '.join(best)} share the best mean rank, {number(means[best[0]], 2)} of {len(means)}."
    rest = several([(-means[name], f"{name} {number(means[name], 2)}") for name in means if name != best[0]])
    return (
        f"{best[0]} has the best mean rank, {number(means[best[0]], 2)} of {len(means)} (first in"
        f" {percent(first[best[0]])} of draws); {rest}."
    )


def _shades(number_of: int) -> list[str]:
    """Return colours from dark to light."""
    steps = np.linspace(0, 1, number_of)[:, None]
    return [to_hex(colour) for colour in (1 - steps) * DARK + steps * LIGHT]


def _starts(shares: np.ndarray) -> np.ndarray:
    """Return where each rank's bars begin: (ranks, variants)."""
    return np.asarray((np.cumsum(shares, axis=1) - shares).T)


def _bars(
    axes: Axes, starts: np.ndarray, shares: np.ndarray, colour: str, label: str, places: Sequence[int]
) -> None:
    """Draw one rank's part of every bar, each belonging to its variant, and say how much it is where there is room."""
    bars = axes.barh(
        np.arange(len(shares)),
        100 * shares,
        left=100 * starts,
        height=0.72,
        color=colour,
        edgecolor="white",
        linewidth=0.6,
        label=label,
    )
    for row, (bar, place) in enumerate(zip(bars, places, strict=True)):
        bar.set_gid(f"variant-{place}")
        if shares[row] >= LEAST_LABELLED:
            middle = 100 * (starts[row] + shares[row] / 2)
            label_on(axes, middle, row, f"{100 * shares[row]:.0f}", colour).set_gid(f"variant-{place}")
