"""The report's tables as plain data: columns, and rows of cells that the Typst template sets.

A cell is a text, or `{"text", "style", "marker", "heat"}`: the style is `strong`, `muted`, `good` or `bad`, the
marker the place of a variant, the heat a ground from -100 to 100. Texts are never markup, so a name with
strange characters is only printed.
"""

# ruff: noqa: RUF001  (typographic signs in printed text)

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from irisflow.reporting.findings import iqm_label
from irisflow.reporting.style import (
    DASH,
    Summary,
    count,
    duration,
    interval,
    listed,
    number,
    p_value,
    percent,
    plural,
    score,
    seeds_text,
    variant_names,
)
from irisflow.statistics.inputs import COMPONENTS

MOST_VARIANTS_ACROSS = 6
MOST_ROOMY_ROWS = 6  # of the first page's tables; more are set smaller, so that they stay on it
MOST_GAME_ROWS = 60  # of variants in single games; more are in the summary only
FEWEST_GAMES = 8  # that say something of other games
FEW_GAMES, MANY_GAMES = 3, 8  # with more than eight the coverage lies above the warnings
MOST_TOLD_IN_CAPTION = 8
IRIS_PROTOCOL = {"seeds": 5, "games": 26, "env_step": 100_000, "episodes": 100, "temperature": 0.5}
VERDICT_STYLES = {"better": "good", "worse": "bad", "too few runs": "muted", "baseline": "muted"}
COST_NOTES = "GFLOP: products and sums of one rollout without a backward pass, counted, an estimate. Energy: not measured."
Cell = str | dict[str, Any]
Block = dict[str, Any]


def column(title: str, *, align: str = "right", width: str = "auto") -> dict[str, str]:
    """Return a column; `width` is `auto` or a fraction such as `1fr`."""
    return {"title": title, "align": align, "width": width}


def table(
    identifier: str,
    title: str,
    columns: Sequence[Mapping[str, str]],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str = "",
    size: float = 8.0,
    rules_after: Sequence[int] = (),
) -> Block:
    """Return a table block; `size` in points, `rules_after` numbers of rows below which a rule is drawn."""
    return {
        "kind": "table",
        "id": identifier,
        "title": title,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "caption": caption,
        "size": size,
        "rules_after": list(rules_after),
    }


def table_as_csv(block: Block) -> str:
    """Return a table block as CSV, its texts as they are printed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([found["title"].replace("\n", " ") for found in block["columns"]])
    for row in block["rows"]:
        texts = [cell if isinstance(cell, str) else cell["text"] for cell in row]
        writer.writerow([text.replace("\N{ZERO WIDTH SPACE}", "") for text in texts])
    return text.getvalue()


def variant_cell(summary: Summary, name: str) -> Cell:
    """Return a variant's name behind its marker."""
    names = variant_names(summary)
    return {"text": name, "style": "strong", "marker": names.index(name)} if name in names else name


def answer_table(summary: Summary) -> Block:
    """Return T1: one row per variant with everything that decides about it."""
    num_values = next((row["iqm"]["num_values"] for row in summary["aggregates"].values() if row), 4)
    columns = [
        column("Variant", align="left"),
        column("Question it answers", align="left", width="1fr"),
        column("Games ×\nseeds"),
        column(
            f"{iqm_label(num_values).split(' (')[0]}\n[95 % CI{', games too' if _is_few(summary) else ''}]"
        ),
        column("Median"),
        column("Mean"),
        column("Optimality\ngap"),
        column("P(improvement)\n[95 % CI]"),
        column("p\n(Holm)"),
        column("Wall-clock"),
        column("Verdict", align="left"),
    ]
    variants = summary["study"]["variants"]
    rows = [_answer_row(summary, variant) for variant in variants]
    ends = [
        row for row, (this, following) in enumerate(pairwise(variants)) if this["axis"] != following["axis"]
    ]
    if len(ends) > 1:
        columns.insert(1, column("Axis", align="left"))
        for row, cells in enumerate(rows):
            cells.insert(1, variants[row]["axis"] if row == 0 or row - 1 in ends else "")
    return table(
        "T1",
        "Variants",
        columns,
        rows,
        caption=_answer_caption(summary),
        size=9.0
        if len(rows) <= (MOST_ROOMY_ROWS if len(summary["study"]["games"]) <= MANY_GAMES else FEW_GAMES)
        else 7.5,
        rules_after=ends,
    )


def _answer_row(summary: Summary, variant: Mapping[str, str]) -> list[Cell]:
    name = variant["name"]
    metrics = summary["aggregates"][name]
    comparison = summary["comparisons"].get(name)
    seconds = summary["cost"]["wall_s_by_variant"].get(name)
    absent = "baseline" if name == summary["study"]["baseline"] else DASH
    verdict = comparison["verdict"] if comparison else absent
    median_style = "muted" if len(summary["block"]["seeds"]) < 10 else ""
    return [
        variant_cell(summary, name),
        variant["question"],
        f"{len(summary['block']['games'])} × {len(summary['block']['runs'][name])}",
        {"text": interval(_iqm_told_first(summary, name)), "style": "strong"},
        {"text": number(metrics["median"]["value"]) if metrics else DASH, "style": median_style},
        number(metrics["mean"]["value"]) if metrics else DASH,
        number(metrics["optimality_gap"]["value"]) if metrics else DASH,
        interval(comparison["improvement"], 2) if comparison else DASH,
        p_value(comparison["p_holm"]) if comparison else DASH,
        duration(seconds) if seconds is not None else DASH,
        {"text": verdict, "style": VERDICT_STYLES.get(verdict, "")},
    ]


def _is_few(summary: Summary) -> bool:
    """Return whether there are several games, but too few to stand for others, and intervals that resample them."""
    known = any(row and row["iqm"]["games_low"] is not None for row in summary["aggregates"].values())
    return known and 1 < len(summary["block"]["normalised_games"]) < FEWEST_GAMES


def _iqm_told_first(summary: Summary, name: str) -> Mapping[str, Any] | None:
    """Return a variant's IQM; with few games its interval is the one that resamples the games, too."""
    iqm = summary["aggregates"][name].get("iqm")
    if not iqm or not _is_few(summary) or iqm["games_low"] is None:
        return iqm if iqm is None else dict(iqm)
    return {**iqm, "low": iqm["games_low"], "high": iqm["games_high"]}


def _answer_caption(summary: Summary) -> str:
    block = summary["block"]
    num_values = len(block["normalised_games"]) * len(block["seeds"])
    few = " With fewer than 4 values the IQM is the mean." if 0 < num_values < 4 else ""
    if _is_few(summary):
        few += " Intervals of it resample the games, too, as there are few; F1 has those over seeds alone beside them."
    verdict = (
        f" P(improvement): over {summary['study']['baseline']}. Verdict: permutation test on it,"
        " Holm-adjusted, level 0.05."
    )
    return (
        "Scores are normalised: 0 is random play, 1 human play (perfect play for toy games)."
        f" Aggregates over {plural(len(block['normalised_games']), 'game')} ×"
        f" {seeds_text(summary)}.{verdict if summary['comparisons'] else ''}{few}{_all_available(summary)}"
    )


def _all_available(summary: Summary) -> str:
    """Return the IQMs over every run that is there, where some are missing."""
    found = summary.get("all_available")
    if not found:
        return ""
    told = [f"{name} {number(record['iqm'])} ({record['num_runs']})" for name, record in found.items()]
    return (
        f" IQM over every run that is there (how many), not comparable: {listed(told, MOST_TOLD_IN_CAPTION)}."
    )


def random_play_table(summary: Summary) -> Block:
    """Return T7: every variant against random play, over all games and game by game."""
    columns = [
        column("Variant", align="left"),
        column("Game", align="left", width="1fr"),
        column("Runs"),
        column("Mean"),
        column("Random\nplay"),
        column("Difference\n[95 % CI]"),
        column("P(beats a\nrandom run)"),
        column("p"),
        column("p\n(Holm)"),
        column("Smallest p\n(Holm)"),
        column("Verdict", align="left"),
    ]
    rows: list[list[Cell]] = []
    rules = []
    random = summary["random_play"]
    has_games = has_game_rows(summary)
    for name, record in random["variants"].items():
        if len(random["games"]) > 1:
            label: Cell = {"text": plural(len(record["games"]), "game"), "style": "strong"}
            rows.append([variant_cell(summary, name), label, *[DASH] * 4, *_random_play_cells(record)])
        rows += [
            [
                variant_cell(summary, name),
                game,
                *_random_play_means(cells[name]),
                *_random_play_cells(cells[name]),
            ]
            for game, cells in random["cells"].items()
            if name in cells and has_games
        ]
        rules.append(len(rows) - 1)
    return table(
        "T7",
        "Against random play",
        columns,
        rows,
        caption=_random_play_caption(summary),
        rules_after=rules[:-1],
    )


def has_game_rows(summary: Summary) -> bool:
    """Return whether the comparison with random play has a row for each game."""
    random = summary["random_play"]
    return len(random["cells"]) * len(random["variants"]) <= MOST_GAME_ROWS


def _random_play_means(record: Mapping[str, Any]) -> list[Cell]:
    difference = record["difference"]
    bounds = (
        f" [{score(difference['low'])}, {score(difference['high'])}]" if difference["low"] is not None else ""
    )
    return [
        f"{record['num_runs']} vs {record['num_random_runs']}",
        score(record["mean"]),
        score(record["random_mean"]),
        f"{score(difference['value'])}{bounds}",
    ]


def _random_play_cells(record: Mapping[str, Any]) -> list[Cell]:
    verdict = record["verdict"]
    words = {"better": "beats random play", "worse": "lower than random play"}.get(verdict, verdict)
    return [
        number(record["improvement"]["value"], 2),
        p_value(record["p"]),
        p_value(record["p_holm"]),
        p_value(record["smallest_p_holm"]),
        {"text": words, "style": VERDICT_STYLES.get(verdict, "")},
    ]


def _random_play_caption(summary: Summary) -> str:
    several = len(summary["random_play"]["games"]) > 1
    games = ", averaged over games; below, game by game" if several else ""
    family = "the variants; for single games over variants × games" if several else "the variants"
    is_left_out = (
        len(summary["random_play"]["cells"]) * len(summary["random_play"]["variants"]) > MOST_GAME_ROWS
    )
    if is_left_out:
        games, family = ", averaged over games (single games: summary.json, key random_play)", "the variants"
    return (
        f"Two-sided permutation test, labels permuted within each game, on the share of pairs of runs that the variant"
        f" wins, ties one half{games}. Raw scores. Holm: over {family}. Smallest p: what these run counts can give at"
        " best. Level 0.05."
    )


def coverage(summary: Summary) -> Block:
    """Return T2: for each variant and game, how many of the planned seeds have a final score."""
    rows = []
    for name in variant_names(summary):
        expected = summary["coverage"]["planned"][name]
        cells = summary["coverage"]["cells"][name]
        present = [len(cells[game]) for game in summary["study"]["games"]]
        rows.append(
            {
                "variant": variant_cell(summary, name),
                "cells": [
                    {"text": f"{found}/{expected}", "is_complete": found == expected} for found in present
                ],
            }
        )
    return {
        "kind": "coverage",
        "id": "T2",
        "title": "Seeds with a final score / planned",
        "games": summary["study"]["games"],
        "rows": rows,
        "is_dense": len(rows)
        > (MOST_ROOMY_ROWS if len(summary["study"]["games"]) <= FEW_GAMES else FEW_GAMES),
    }


def game_tables(summary: Summary) -> list[Block]:
    """Return T3: raw and normalised scores per game; several tables where there are many variants."""
    names = variant_names(summary)
    most = MOST_VARIANTS_ACROSS
    if len(names) >= most and len(summary["games"]) <= FEW_GAMES:
        return [_long_game_table(summary, names)]
    groups = [names[start : start + most] for start in range(0, len(names), most)]
    return [_game_table(summary, group, index) for index, group in enumerate(groups)]


def _game_table(summary: Summary, names: Sequence[str], index: int) -> Block:
    columns = [
        column("Game", align="left"),
        column("Random"),
        column("Human*"),
        column("IRIS, published"),
        *(
            column(title, align=align)
            for name in names
            for title, align in ((f"{name}:\nmean ± std", "right"), ("norm.", "right"))
        ),
    ]
    planned = summary["coverage"]["planned"]
    rows = [_game_row(game, row, names, planned) for game, row in summary["games"].items()]
    title = "Scores per game" if index == 0 else "Scores per game, continued"
    caption, size = _game_caption(summary), {1: 8.5, 2: 8.5, 3: 8.5, 6: 6.8}.get(len(names), 7.5)
    return table("T3", title, columns, rows, caption=caption, size=size)


def _long_game_table(summary: Summary, names: Sequence[str]) -> Block:
    """Return T3 with a row for each variant of each game: for few games and many variants."""
    titles = ("Random", "Human*", "IRIS, published", "Mean ± std", "norm.")
    columns = [column("Game", align="left"), column("Variant", align="left"), *map(column, titles)]
    rows = [
        [
            game,
            variant_cell(summary, name),
            *_game_row(game, row, [name], summary["coverage"]["planned"])[1:],
        ]
        for game, row in summary["games"].items()
        for name in names
    ]
    rules = [len(names) * (index + 1) - 1 for index in range(len(summary["games"]) - 1)]
    caption = _game_caption(summary)
    return table("T3", "Scores per game", columns, rows, caption=caption, size=7.5, rules_after=rules)


def _game_caption(summary: Summary) -> str:
    num_seeds = len(summary["study"]["seeds"])
    spread = "std over seeds (ddof = 1)" if num_seeds > 1 else "one seed: no std"
    return (
        f"Raw score: mean over seeds of the run's mean over evaluation episodes; {spread}. norm.: (score −"
        f" random) /"
        " (human − random), the darker its ground the nearer to 1. * For toy games perfect play, not human. IRIS,"
        " published: mean of 5 runs at 100,000 steps."
    )


def _game_row(
    game: str, row: Mapping[str, Any], names: Sequence[str], planned: Mapping[str, int]
) -> list[Cell]:
    scale = row["reference"]
    cells: list[Cell] = [
        game,
        score(scale["random"]) if scale else DASH,
        score(scale["best"]) if scale else DASH,
        {"text": score(row["published_iris"]), "style": "muted"},
    ]
    for name in names:
        record = row["variants"][name]
        if record["mean"] is None:
            cells += [{"text": "missing", "style": "bad"}, DASH]
        else:
            spread = f" ± {score(record['std'])}" if record["std"] is not None else ""
            lacks = len(record["seeds"]) < planned[name]
            runs = f" (n = {len(record['seeds'])})" if lacks else ""
            cells += [f"{score(record['mean'])}{spread}{runs}", _heat(record["normalised"])]
    return cells


def _heat(value: float | None) -> Cell:
    """Return a normalised score on a ground that is the darker, the nearer to 1 it is; below 0 of another colour."""
    if value is None:
        return DASH
    return {"text": number(value, 2), "heat": round(100 * max(-1.0, min(1.0, value)))}


def cost_table(summary: Summary) -> Block:
    """Return T4: one row per stage and variant."""
    columns = [
        column("Stage", align="left"),
        column("Variant", align="left"),
        column("Jobs"),
        column("Wall-clock,\nall jobs"),
        column("Longest\njob"),
        column("Environment\nsteps"),
        *(column(f"Updates:\n{part.replace('_', ' ')}") for part in COMPONENTS),
        column("Peak\nmemory"),
        column("Parameters"),
        column("GFLOP an\nimagined frame"),
        column("Device", align="left"),
    ]
    rows: list[list[Cell]] = []
    rules = []
    for row in summary["cost"]["rows"]:
        if rows and rows[-1][0] != row["stage"]:
            rules.append(len(rows) - 1)
        rows.append(_cost_row(summary, row))
    caption = (
        "Sums over the jobs of a row; memory is the largest resident set of one job; parameters: tokenizer /"
        f" world model / actor-critic. {COST_NOTES}"
    )
    return table("T4", "Cost", columns, rows, caption=caption, size=7.5, rules_after=rules)


def _cost_row(summary: Summary, row: Mapping[str, Any]) -> list[Cell]:
    updates = row["num_updates"]
    return [
        row["stage"],
        variant_cell(summary, row["variant"]),
        count(row["num_jobs"]),
        duration(row["wall_s"]),
        duration(row["longest_s"]),
        count(row["env_steps"]),
        *(count(updates[part]) if updates[part] else DASH for part in COMPONENTS),
        f"{row['peak_rss_mb']:,.0f} MB",
        millions_of_parts(row["parameters"]),
        imagined_frame_gflop(summary, row["variant"]) if row["parameters"] else DASH,
        listed(row["devices"], 2),
    ]


def imagined_frame_gflop(summary: Summary, variant: str) -> str:
    """Return the arithmetic of one imagined frame of a variant, the most of any game; a dash where nobody counted it."""
    found = [
        record["mean"]
        for record in summary["world_model"].get("scalars", ())
        if (record["variant"], record["metric"]) == (variant, "imagined_frame_gflop")
    ]
    return f"{max(found):.3g}" if found else DASH


def millions_of_parts(parameters: Mapping[str, int] | None) -> str:
    """Return the parameters of tokenizer, world model and actor-critic, or a dash for None."""
    if not parameters:
        return DASH
    return " / ".join(_millions(parameters[part]) for part in COMPONENTS)


def _millions(quantity: int) -> str:
    return f"{quantity / 1e6:.1f} M" if quantity >= 1e5 else f"{quantity / 1e3:.1f} k"


def deviations(summary: Summary) -> list[str]:
    """Return how the study departs from IRIS's published protocol, one phrase each."""
    study, protocol = summary["study"], summary["protocol"]
    if not protocol:
        return ["not known: the scores are from elsewhere"]
    steps, episodes = protocol["env_step"], protocol["least_episodes"]
    found = []
    if len(summary["block"]["games"]) != IRIS_PROTOCOL["games"] or not summary["published"]:
        found.append(f"games: {listed(study['games'], 4)} (IRIS: the 26 of Atari 100k)")
    if len(study["seeds"]) != IRIS_PROTOCOL["seeds"]:
        found.append(f"{plural(len(study['seeds']), 'seed')} per game (IRIS: 5)")
    if steps != [IRIS_PROTOCOL["env_step"]]:
        when = listed([count(step) for step in steps], 3)
        found.append(f"final scores after {when} environment steps (IRIS: 100,000)")
    if episodes != IRIS_PROTOCOL["episodes"]:
        found.append(f"{plural(episodes, 'evaluation episode')} per run (IRIS: 100)")
    if protocol["temperature"] != [IRIS_PROTOCOL["temperature"]]:
        temperatures = listed([f"{value:g}" for value in protocol["temperature"]])
        found.append(f"sampling temperature {temperatures} (IRIS: 0.5)")
    if protocol["epsilon"] != [0.0]:
        found.append(f"random actions with probability {protocol['epsilon']} (IRIS: 0)")
    if protocol["sticky"] != [0.0]:
        found.append("sticky actions (IRIS: none)")
    if protocol["num_truncated"]:
        share = percent(protocol["num_truncated"] / protocol["num_episodes"])
        found.append(f"{share} of the final episodes reached the time limit")
    if any(protocol["pretraining_env_steps"]):
        found.append("some variants train on recorded steps, which count as environment steps (IRIS: none)")
    return found


def _random_play_note(summary: Summary) -> dict[str, str]:
    if not summary["random_play"]:
        return {
            "Random play": "Random play was not measured: the study's file says how much (random_play: 20)."
        }
    how = _counted(summary["random_play"]["variants"])
    return {
        "Random play": "uniformly random actions in the games, and with the limits, of the final evaluation; a run is a"
        f" seed's mean over as many episodes. Same test as above, on raw scores, over {how}. It takes no part in the"
        " aggregates and rankings."
    }


def _counted(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return over which deals of the labels tests were made."""
    if all(record["is_exact"] for record in records.values()):
        return "all ways to deal out the labels"
    return "10,000 random deals with the +1 correction"


def method_notes(summary: Summary) -> list[dict[str, str]]:
    """Return the definitions that a reader needs to check the numbers."""
    reps = f"{summary['study']['bootstrap_reps']:,}"
    how = _counted(summary["comparisons"])
    notes = {
        "Normalised score": "(score − random) / (human − random); random and human scores are those that"
        " IRIS and rliable use."
        " Toy games use perfect play instead of human play and say so.",
        "Order of averaging": "episodes → mean of a run (variant, game, seed) → metrics over runs × games."
        " An episode is never"
        " treated as a run.",
        "IQM, median, mean, optimality gap": "rliable's definitions: mean of the middle half of all runs;"
        " median and mean of"
        " the games' means; average shortfall below 1.",
        "Intervals": f"95 % percentile intervals, {reps} stratified bootstrap resamples of runs within games"
        " (rliable), the"
        " generator seeded per variant and metric, so that other variants do not move an interval.",
        "Probability of improvement": "P(X > Y) + P(X = Y)/2 over pairs of runs of a game, averaged over"
        " games. It uses raw"
        " scores, since ranks need no normalisation.",
        "Test": "two-sided permutation test on the probability of improvement, labels permuted within each"
        " game"
        f" over {how}; Holm-adjusted over all variants against {summary['study']['baseline']}. The p value of a difference"
        " in IQM comes from the same deals, 10,000 of them where there are more than 20,000.",
        **_random_play_note(summary),
        "Selection": "what is chosen by these scores was chosen on the games that it is tested on (selection on test"
        " games): for a claim about other games, keep some apart.",
        "Missing runs": "aggregates use the largest block of games × seeds that every variant has; nothing"
        " is imputed.",
        "Deviations from IRIS's protocol": "; ".join(deviations(summary)) or "none",
    }
    return [{"term": term, "text": text} for term, text in notes.items()]
