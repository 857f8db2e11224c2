"""The world models' tables: from the first to the finished weights, and which rewards are taken for which."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from irisflow.reporting.quality import Place, Quality, interval_note, quality_of
from irisflow.reporting.style import DASH, MINUS, Summary, count, listed, number, percent, plural
from irisflow.reporting.tables import MOST_ROOMY_ROWS, Block, Cell, column, table, variant_cell

OF_RUN = (column("Variant", align="left"), column("Game", align="left"), column("Steps"))
NO_LPIPS = "n/a (weights not available offline)"
CLASSES = {"reward": (f"{MINUS}1", "0", "+1"), "end": ("no", "yes")}


def quality_tables(summary: Summary) -> tuple[Block, Block, list[Block]]:
    """Return T8 (the tokenizer's first and finished weights), T18 (the world model's) and T9 (confusion of rewards)."""
    quality = quality_of(summary)
    return (
        _tokenizer_table(summary, quality),
        _world_model_table(summary, quality),
        _confusion_table(summary, quality),
    )


def _tokenizer_table(summary: Summary, quality: Quality) -> Block:
    columns = [
        *OF_RUN,
        column("PSNR,\ndB"),
        column("SSIM"),
        column("LPIPS"),
        column("Small objects\ndrawn"),
        column("Small\nobjects"),
        column("Codebook\nperplexity"),
        column("Codebook\nin use"),
    ]
    found = [
        interval
        for name in quality.variants
        for place in quality.places
        if name in quality.measured(place)
        and (interval := quality.interval(name, place, "psnr", quality.steps(name, place)[-1]))
    ]
    note = interval_note(found, quality.places[0])
    caption = (
        f"First weights → finished agent, mean over seeds. {'In brackets:' if found else 'There is'} {note}."
        " LPIPS: the published one, less is better, of at most 64"
        f" reconstructions. Small objects: how many the held-out frames have; {DASH}: none."
    )
    return _change_table(
        summary, quality, "T8", "What training changed: tokenizer", columns, caption, _tokenizer_cells
    )


def _world_model_table(summary: Summary, quality: Quality) -> Block:
    columns = [
        *OF_RUN,
        column("Changed tokens,\n1 ahead"),
        column("Changed tokens,\nlast ahead"),
        column("Reward error,\nlast ahead"),
        column("Reward\nmacro-F1"),
        column("End average\nprecision"),
        column("Base rate\nof ends"),
    ]
    caption = (
        "Changed tokens: share right among those that differ from the last real frame's, likeliest ones after"
        f" {plural(quality.context, 'real frame')}."
        ' Reward error: of the imagined sum of signs up to there (of "no reward ever").'
    )
    return _change_table(
        summary, quality, "T18", "What training changed: world model", columns, caption, _model_cells
    )


def _change_table(
    summary: Summary,
    quality: Quality,
    identifier: str,
    title: str,
    columns: Sequence[Mapping[str, str]],
    caption: str,
    cells: Callable[[Quality, str, Place, Sequence[int]], list[Cell]],
) -> Block:
    rows: list[list[Cell]] = []
    rules = []
    for name in quality.variants:
        for place in quality.places:
            if name in quality.measured(place):
                steps = quality.steps(name, place)
                ends = sorted({steps[0], steps[-1]})
                told = cells(quality, name, place, ends)
                rows.append(
                    [variant_cell(summary, name), place.label, _arrow([count(step) for step in ends]), *told]
                )
        rules.append(len(rows) - 1)
    return table(identifier, title, columns, rows, caption=caption, size=7.5, rules_after=rules[:-1])


def _tokenizer_cells(quality: Quality, name: str, place: Place, ends: Sequence[int]) -> list[Cell]:
    objects = quality.scalar(name, place, "small_object_recall", ends[-1])
    recalls = _scalars(quality, name, place, "small_object_recall", ends)
    distances = _scalars(quality, name, place, "lpips", ends)
    return [
        _with_interval(quality, name, place, "psnr", ends, 1),
        _with_interval(quality, name, place, "ssim", ends, 3),
        _with_interval(quality, name, place, "lpips", ends, 3) if distances else NO_LPIPS,
        _arrow([percent(value) for value in recalls]),
        count(round(objects["n"] / objects["num_seeds"])) if objects else DASH,
        _numbers(quality, name, place, "perplexity", ends, 1),
        _numbers(quality, name, place, "usage", ends, 2),
    ]


def _model_cells(quality: Quality, name: str, place: Place, ends: Sequence[int]) -> list[Cell]:
    def ahead(metric: str, place_in_curve: int) -> list[float]:
        found = [quality.curve(name, place, metric, "greedy", step) for step in ends]
        return [curve["mean"][place_in_curve] for curve in found if curve]

    nothing = quality.curve(name, place, "reward_error", "copy_last", ends[-1])
    beside = f" ({number(nothing['mean'][-1], 2)})" if nothing else ""
    base = quality.scalar(name, place, "end_base_rate", ends[-1])
    return [
        _arrow([percent(value) for value in ahead("changed_token_accuracy", 0)]),
        _arrow([percent(value) for value in ahead("changed_token_accuracy", -1)]),
        f"{_arrow([number(value, 2) for value in ahead('reward_error', -1)])}{beside}",
        _numbers(quality, name, place, "reward_macro_f1", ends, 2),
        _numbers(quality, name, place, "end_average_precision", ends, 2),
        number(base["mean"], 3) if base else DASH,
    ]


def _numbers(quality: Quality, name: str, place: Place, metric: str, ends: Sequence[int], digits: int) -> str:
    return _arrow([number(value, digits) for value in _scalars(quality, name, place, metric, ends)])


def _with_interval(
    quality: Quality, name: str, place: Place, metric: str, ends: Sequence[int], digits: int
) -> str:
    """Return the numbers, and the interval of the last one."""
    told, found = (
        _numbers(quality, name, place, metric, ends, digits),
        quality.interval(name, place, metric, ends[-1]),
    )
    if found is None or found.low[0] is None or found.high[0] is None:
        return told
    return f"{told} [{number(found.low[0], digits)}, {number(found.high[0], digits)}]"


def _scalars(quality: Quality, name: str, place: Place, metric: str, ends: Sequence[int]) -> list[float]:
    found = [quality.scalar(name, place, metric, step) for step in ends]
    return [record["mean"] for record in found if record]


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
        column("Game", align="left"),
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
