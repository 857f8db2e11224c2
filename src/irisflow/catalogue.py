"""What there is to choose from: games, studies, scales, variants and the parts of each family."""

import ast
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import yaml

from irisflow import games, params, variants

# What a variant is made of, besides its parts: group of `params/` -> heading.
COMPOSED = {
    "tokenizer": "tokenizers",
    "world_model": "world models",
    "initialization": "initializations",
    "corpus": "corpora",
}


def catalogue() -> dict[str, Any]:
    """Return the names of everything that a study or a command line can choose, as plain data."""
    return {
        "families": {family: variants.available(family) for family in variants.FAMILIES},
        "variants": params.names("variant"),
        "studies": params.names("study"),
        "scales": params.names("scale"),
        "games": list(games.known_games()),
    }


def catalogue_text() -> str:
    """Return the catalogue as text to read, with what each entry is for."""
    sections = {
        **_variants_by_axis(),
        "studies": [(name, _content("study", name)["title"]) for name in params.names("study")],
        "scales": [(name, _content("scale", name)["note"]) for name in params.names("scale")],
        **{
            heading: [(n, _comment(group, n)) for n in params.names(group)]
            for group, heading in COMPOSED.items()
        },
        **{
            f"parts: {family}": [(name, _docstring(family, name)) for name in variants.available(family)]
            for family in variants.FAMILIES
        },
    }
    lines = [line for heading, rows in sections.items() for line in ("", heading, *_listed(rows))]
    return "\n".join([*lines[1:], "", "games", *_wrapped(list(games.known_games()))])


def _variants_by_axis() -> dict[str, list[tuple[str, str]]]:
    """Return each variant's question, under the axis on which it differs from the baseline; that comes first."""
    found = [_content("variant", name)["variant"] for name in params.names("variant")]
    found.sort(key=lambda variant: (variant["axis"] != "baseline", variant["axis"], variant["name"]))
    return {
        f"variants: {axis}": [(variant["name"], variant["question"]) for variant in group]
        for axis, group in groupby(found, key=lambda variant: variant["axis"])
    }


def _listed(rows: list[tuple[str, str]]) -> Iterator[str]:
    yield from (f"  {name:<30} {about}" for name, about in rows)


def _content(group: str, name: str) -> Any:
    return yaml.safe_load((params.PARAMS / group / f"{name}.yaml").read_text(encoding="utf-8"))


def _comment(group: str, name: str) -> str:
    """Return the first comment of a file of `params/`."""
    text = (params.PARAMS / group / f"{name}.yaml").read_text(encoding="utf-8")
    comments = (line for line in text.splitlines() if line.startswith("# ") and "@package" not in line)
    return next(comments, "# ").removeprefix("# ")


def _docstring(family: str, name: str) -> str:
    """Return the first line of a part's docstring, read from its source: nothing is imported."""
    tree = ast.parse(variants.module_path(family, name).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n")[0]


def _wrapped(words: list[str], width: int = 6) -> list[str]:
    return ["  " + ", ".join(words[i : i + width]) for i in range(0, len(words), width)]
