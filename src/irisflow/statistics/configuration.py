"""In which keys one configuration differs from another."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

IGNORED = ("variant.",)  # name, question and axis: what the variant is called, not what it does
Change = tuple[str, str | None, str | None]


def changed_keys(base: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return dotted key, value in `base`, value in `own` wherever they differ, sorted; None where there is no such key.

    Values are written as JSON, texts without their quotes. Lists are compared as wholes.
    """
    before, after = dict(_leaves(base)), dict(_leaves(own))
    return tuple(
        (key, before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(IGNORED)
    )


def settings_of(tree: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return every dotted key with its value, sorted; `scale` is left out, as other keys stand for its values."""
    return tuple(
        (key, value) for key, value in sorted(_leaves(tree)) if not key.startswith((*IGNORED, "scale."))
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)
