"""What stands behind the report's pages: the whole configuration, and the words."""

from collections.abc import Iterator
from typing import Any

from irisflow.reporting.provenance import starts_table
from irisflow.reporting.style import Summary
from irisflow.reporting.tables import Block, Cell, column, table

PAIRS_ACROSS = 3  # keys with their values beside each other
MOST_LETTERS = 34  # of a value
WORDS = {
    "step": "one decision of the agent; in Atari four frames of the emulator",
    "run": "one trained agent: a variant, a game and a seed",
    "variant, baseline, axis": "an arm of the study; the one that all others are compared with; what an arm changes",
    "final evaluation": "episodes that the finished agent plays for its score; none of them is trained on",
    "tokenizer, token, codebook": "what turns a frame into a few codes and back; one of these codes; all that there are",
    "perplexity": "how many codes would be in use if all were as frequent: exp of the entropy of the tokens",
    "world model": "predicts, from the tokens and actions so far, reward, end and the tokens of the next frame",
    "imagination": "the world model goes on from its own predictions; the policy learns there only",
    "context": "real frames that the world model sees before it goes on alone",
    "open loop, teacher forced": "each prediction follows from the ones before it; from the real past",
    "changed tokens": "positions whose token differs from that of the last real frame; a copy of it gets none right",
    "ceiling": "the real frame through the tokenizer: the best that predicted tokens can be decoded to",
    "held-out episodes": "played by the baseline's agent for measurements only; the same for all runs of a game",
    "end, time limit": "the game is over, or a life is lost where lives are episodes; play was cut off",
    "Holm": "p values made larger for the number of comparisons, so that all together keep the level",
    "digest": "16 hex digits that change when the configuration or the code of a stage changes",
}


def appendix(summary: Summary) -> Iterator[Block]:
    """Yield the pages after the last: the baseline's configuration, the log of starts, where known, and the glossary."""
    if summary["study"].get("configuration"):
        yield {"title": "Appendix: configuration", "blocks": [configuration_table(summary)]}
    notes: list[dict[str, Any]] = [{"term": term, "text": text} for term, text in WORDS.items()]
    words = {"kind": "notes", "title": "", "notes": notes}
    if (starts := starts_table(summary)) is None:
        yield {"title": "Appendix: words", "blocks": [words]}
    else:
        yield {"title": "Appendix: starts of jobs, words", "blocks": [starts, words]}


def configuration_table(summary: Summary) -> Block:
    """Return T16: every key of the baseline's configuration."""
    found = [(key, _short(value)) for key, value in summary["study"]["configuration"]]
    height = -(-len(found) // PAIRS_ACROSS)
    rows: list[list[Cell]] = [
        [text for place in range(row, len(found), height) for text in found[place]] for row in range(height)
    ]
    width = 2 * PAIRS_ACROSS
    columns = [
        column(title, align="left", width=size)
        for title, size in (("Key", "auto"), ("Value", "1fr")) * PAIRS_ACROSS
    ]
    baseline = summary["study"]["baseline"]
    caption = (
        f"As composed for {baseline}; game and seed are the run's own. What other variants change: T13. Long values are cut:"
        " summary.json has them whole, key study."
    )
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    return table("T16", f"Every setting of {baseline}", columns, padded, caption=caption, size=6.2)


def _short(value: str) -> str:
    return value if len(value) <= MOST_LETTERS else f"{value[: MOST_LETTERS - 1]}…"
