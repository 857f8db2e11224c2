"""Published agents beside the study's variants: rows of the aggregates' figure, and a table. Never ranked, never tested."""

from collections.abc import Mapping
from typing import Any

from irisflow.reporting.style import DASH, Look, Summary, interval, percent, plural, score
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell
from irisflow.statistics.aggregate import METRICS
from irisflow.statistics.baselines import BY_DEFINITION

LOOK = Look("#202124", "d")
ALONE = "IRIS"


def drawn(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of the agents to draw, by what names a row.

    Beside a study with IRIS's budget all of them; else IRIS alone, as nothing that a small budget gives is
    near to them.
    """
    is_comparable = summary["study"]["full_protocol"]
    return {
        f"{record['label']} ({record['badge'] if is_comparable else 'published'})": record["metrics"]
        for record in summary["published"]
        if record["key"] not in BY_DEFINITION and (is_comparable or record["label"] == ALONE)
    }


def published_table(summary: Summary) -> Block:
    """Return T14: the variants' aggregates and those of published agents, over the same games."""
    columns = [
        column("Agent", align="left"),
        column("Year"),
        column("Compares", align="left"),
        *(column(f"{title}\n[95 % CI]") for title in ("IQM", "Median", "Mean", "Optimality gap")),
        column("Human or\nbetter"),
    ]
    num_games = len(summary["block"]["normalised_games"])
    own: list[list[Cell]] = [
        [
            variant_cell(summary, name),
            "this study",
            _budget(summary, name),
            *_numbers(record),
            _of_games(summary["num_superhuman"][name], num_games),
        ]
        for name, record in summary["aggregates"].items()
        if record
    ]
    published: list[list[Cell]] = [
        [
            record["label"],
            str(record["year"] or DASH),
            {"text": record["badge"], "style": "muted"},
            *_numbers(record["metrics"]),
            _of_games(record["num_superhuman"], num_games),
        ]
        for record in summary["published"]
    ]
    over = f"Human-normalised, over the same {plural(num_games, 'game')}."
    caption = (
        f"{over} Published agents are for orientation: they are neither ranked nor tested, as their budgets and"
        " evaluations are their own. Where only the means of runs are published there is no IQM: that of means is another"
        " number. Human or better: games whose mean over runs is 1 or more. Sources of the scores: summary.json, key"
        " published."
    )
    return table(
        "T14",
        "Beside published agents",
        columns,
        own + published,
        caption=caption,
        size=7.5,
        rules_after=[len(own) - 1],
    )


def published_scores_tables(summary: Summary) -> list[Block]:
    """Return T17: the published mean score of each agent in each game; nothing for an older summary, which has none."""
    records = summary["published"]
    if not all("raw" in record for record in records):
        return []
    columns = [column("Game", align="left"), *(column(record["label"]) for record in records)]
    rows: list[list[Cell]] = [
        [game, *(score(record["raw"].get(game)) for record in records)]
        for game in summary["block"]["normalised_games"]
    ]
    caption = (
        "Mean raw score as published, of as many runs as T14 says. Budgets and evaluations are their own."
    )
    title = "Published scores, game by game"
    return [table("T17", title, columns, rows, caption=caption, size=6.5)]


def _budget(summary: Summary, name: str) -> str:
    seeds = plural(len(summary["block"]["runs"][name]), "run")
    return seeds if summary["study"]["full_protocol"] else f"{seeds}; another budget: not comparable"


def _numbers(metrics: Mapping[str, Any]) -> list[Cell]:
    return [interval(metrics[metric]) if metric in metrics else DASH for metric in METRICS]


def _of_games(wins: int, num_games: int) -> str:
    return f"{wins} ({percent(wins / num_games)})"
