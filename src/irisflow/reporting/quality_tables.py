"""The world models' tables: from the first to the finished weights, and which rewards are taken for which."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irisflow.reporting.quality import Place, Quality, quality_of
from irisflow.reporting.style import DASH, MINUS, Summary, count, listed, number, percent, plural
from irisflow.reporting.tables import MOST_ROOMY_ROWS, Block, Cell, column, table, variant_cell

CLASSES = {"reward": (f"{MINUS}1", "0", "+1"), "end": ("no", "yes")}


def quality_tables(summary: Summary) -> list[Block]:
    """Return T8 (numbers of the first and the finished weights) and T9 (confusion of rewards)."""
    quality = quality_of(summary)
    return [_change_table(summary, quality), *_confusion_table(summary, quality)]


def _change_table(summary: Summary, quality: Quality) -> Block:
    columns = [
        column("Variant", align="left"),
        column("Game", align="left", width="1fr"),
        column("Steps"),
        column("PSNR,\ndB"),
        column("SSIM"),
        column("Codebook\nperplexity"),
        column("Codebook\nin use"),
        column("Changed tokens,\n1 ahead"),
        column("Changed tokens,\nlast ahead"),
        column("Reward error,\nlast ahead"),
        column("Reward\nmacro-F1"),
        column("End average\nprecision"),
        column("Base rate\nof ends"),
    ]
    rows: list[list[Cell]] = []
    rules = []
    for name in quality.variants:
        rows += [
            [variant_cell(summary, name), place.label, *_changes(quality, name, place)]
            for place in quality.places
            if name in quality.measured(place)
        ]
        rules.append(len(rows) - 1)
    caption = (
        "First weights → finished agent, mean over seeds. Changed tokens: share right among those that differ from the last"
        f" real frame's, likeliest tokens after {plural(quality.context, 'real frame')}. Reward error: difference between"
        ' imagined and real sum of reward signs up to there; in brackets that of "no reward ever".'
    )
    return table(
        "T8", "What training changed", columns, rows, caption=caption, size=7.5, rules_after=rules[:-1]
    )


def _changes(quality: Quality, name: str, place: Place) -> list[Cell]:
    steps = quality.steps(name, place)
    ends = sorted({steps[0], steps[-1]})

    def scalar(metric: str, digits: int) -> str:
        found = [quality.scalar(name, place, metric, step) for step in ends]
        return _arrow([number(record["mean"], digits) for record in found if record])

    def ahead(metric: str, place_in_curve: int) -> list[float]:
        found = [quality.curve(name, place, metric, "greedy", step) for step in ends]
        return [curve["mean"][place_in_curve] for curve in found if curve]

    nothing = quality.curve(name, place, "reward_error", "copy_last", ends[-1])
    beside = f" ({number(nothing['mean'][-1], 2)})" if nothing else ""
    base = quality.scalar(name, place, "end_base_rate", ends[-1])
    return [
        _arrow([count(step) for step in ends]),
        scalar("psnr", 1),
        scalar("ssim", 3),
        scalar("perplexity", 1),
        scalar("usage", 2),
        _arrow([percent(value) for value in ahead("changed_token_accuracy", 0)]),
        _arrow([percent(value) for value in ahead("changed_token_accuracy", -1)]),
        f"{_arrow([number(value, 2) for value in ahead('reward_error', -1)])}{beside}",
        scalar("reward_macro_f1", 2),
        scalar("end_average_precision", 2),
        number(base["mean"], 3) if base else DASH,
    ]


def _arrow(values: Sequence[str]) -> str:
    return " → ".join(values) or DASH


def _confusion_table(summary: Summary, quality: Quality) -> list[Block]:
    """Return T9, or nothing where no counts were kept."""
    rows: list[list[Cell]] = []
    rules = []
    places = quality.places if len(quality.variants) <= MOST_ROOMY_ROWS else (quality.everything,)
    for name in quality.variants:
        for place in places:
            counts = {head: _counts(quality.confusion, name, place, head) for head in CLASSES}
            if any(counts.values()):
                told = [_told(row) for head in CLASSES for row in counts[head]]
                games = (
                    place.label if len(place.games) == 1 else f"sum over {plural(len(place.games), 'game')}"
                )
                rows.append([variant_cell(summary, name), games, *told, _f1_of_rewards(counts["reward"])])
        rules.append(len(rows) - 1)
    if not rows:
        return []
    columns = [
        column("Variant", align="left"),
        column("Game", align="left", width="1fr"),
        *(
            column(f"{head} {word}:\ntold as {' / '.join(words)}")
            for head, words in CLASSES.items()
            for word in words
        ),
        column("Any reward:\nF1"),
    ]
    caption = (
        "Steps of the held-out episodes by what really followed, and how many of them were told as what, by the finished"
        f" agents of all seeds ({listed(quality.everything.games, 4)}). F1: of rewards other than 0, whatever their sign:"
        f" most steps have none. {DASH}: never occurs."
    )
    return [
        table("T9", "Rewards and ends, real and told", columns, rows, caption=caption, rules_after=rules[:-1])
    ]


def _f1_of_rewards(counts: Sequence[Sequence[int]]) -> str:
    """Return the F1 of "there is a reward", from counts by real and by predicted sign."""
    if not counts:
        return DASH
    table = np.array(counts)
    real, told = table[[0, 2]].sum(), table[:, [0, 2]].sum()
    hits = table[np.ix_([0, 2], [0, 2])].sum()
    return number(float(2 * hits / (real + told)), 2) if real else DASH


def _told(counts: Sequence[int]) -> str:
    return " / ".join(count(value) for value in counts) if sum(counts) else DASH


def _counts(confusion: Sequence[Mapping[str, Any]], name: str, place: Place, head: str) -> list[list[int]]:
    """Return the matrix summed over the games of a place; a row for each real class."""
    found = [
        record[head]
        for record in confusion
        if record["variant"] == name and record["game"] in place.games and head in record
    ]
    if not found:
        return []
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]
