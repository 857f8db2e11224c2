"""What the method page adds: how many seeds it would take, and what each variant's configuration changes."""

from collections.abc import Mapping
from typing import Any

from irisflow.reporting.style import DASH, Summary, number, plural, variant_names
from irisflow.reporting.tables import Block, Cell, column, table, variant_cell
from irisflow.statistics.power import NUM_STUDIES, SIZES

MOST_KEYS = 10  # of a variant in the table
MOST_LETTERS = 60  # of a value
ABSENT = "no such key"


def power_note(summary: Summary) -> dict[str, str]:
    """Return the note on how many seeds would tell each variant from the baseline; none where nothing is compared."""
    if not summary["comparisons"]:
        return {}
    found = summary.get("power")
    if not found:
        return {"Seeds needed": "one seed says nothing of the spread between seeds, so this cannot be told."}
    now = plural(len(summary["block"]["seeds"]), "seed")
    told = "; ".join(
        f"{name} {_seeds(record)} (now {number(record['power'], 2)})" for name, record in found.items()
    )
    return {
        "Seeds needed": f"for 80 % power, if the difference from {summary['study']['baseline']} were what was seen: {told}."
        f" Power now: of {now}. From {NUM_STUDIES} simulated studies each: normal scores around the means seen, game by"
        " game, the spread between seeds pooled over variants, the same test at .05 over the number of comparisons. An"
        " effect that was seen in few runs is itself uncertain, and a large one likely exaggerated."
    }


def _seeds(record: Mapping[str, Any]) -> str:
    return str(record["seeds"]) if record["seeds"] is not None else f"more than {SIZES[-1]}"


def configuration_tables(summary: Summary) -> list[Block]:
    """Return T13: the keys in which each variant's configuration differs from the baseline's; nothing if none does."""
    rows: list[list[Cell]] = []
    rules = []
    changes = {variant["name"]: variant.get("changes", []) for variant in summary["study"]["variants"]}
    for name in variant_names(summary):
        found = changes[name]
        rows += [
            [variant_cell(summary, name), key, _short(base), _short(own)]
            for key, base, own in found[:MOST_KEYS]
        ]
        if len(found) > MOST_KEYS:
            more = {"text": f"and {len(found) - MOST_KEYS} more keys, in summary.json", "style": "muted"}
            rows.append([variant_cell(summary, name), more, "", ""])
        if found:
            rules.append(len(rows) - 1)
    if not rows:
        return []
    columns = [
        column("Variant", align="left"),
        column("Key", align="left"),
        column(summary["study"]["baseline"], align="left", width="1fr"),
        column("Here", align="left", width="1fr"),
    ]
    caption = (
        "Composed configurations, which the digests of the runs stand for; only keys whose values differ. What is the same"
        f" in all is in each run's params.yaml. {DASH}: {ABSENT}."
    )
    title = "What each variant changes"
    return [table("T13", title, columns, rows, caption=caption, size=7.0, rules_after=rules[:-1])]


def _short(value: str | None) -> str:
    if value is None:
        return DASH
    return value if len(value) <= MOST_LETTERS else f"{value[: MOST_LETTERS - 1]}…"
