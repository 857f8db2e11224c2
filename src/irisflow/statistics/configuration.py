"""In which keys one configuration differs from another."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

IGNORED = ("variant.",)  # name, question and axis: what the variant is called, not what it does
Change = tuple[str, str | None, str | None]


def changed_keys(base: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return dotted key, value in `base`, value in `own` wherever they differ, sorted; None where there is no such key.

    Values are written as JSON, texts without their quotes. Lists are compared as wholes.
    """
    before, after = leaves(base), leaves(own)
    return tuple(
        (key, before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(IGNORED)
    )


def leaves(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return dotted key -> value, written as `changed_keys` does. Of what this returned, the same."""
    return dict(_leaves(tree))


def with_changes(base: Mapping[str, str], changes: Iterable[Sequence[str | None]]) -> dict[str, str]:
    """Return the leaves of what differs from `base` by these changes."""
    own = dict(base)
    for key, _, value in changes:
        if key is not None and value is not None:
            own[key] = value
        elif key is not None:
            own.pop(key, None)
    return own


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)
