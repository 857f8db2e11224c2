"""Result files: what they hold, how they are read and compared. No torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irisflow.errors import ConfigError, DataError, ResourceError

KIND, SCHEMA = "irisflow-bench", 1
Result = dict[str, Any]
MUST_AGREE = ("schema", "scale")
SHOULD_AGREE = ("variant", "overrides", "device", "threads", "torch", "machine")


def write(result: Mapping[str, Any], path: Path) -> None:
    """Write a result as JSON. Raises ResourceError where that cannot be done."""
    try:
        path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"--output {path}: {error.strerror}. Name a file in a folder that exists."
        ) from None


def read(path: Path) -> Result:
    """Return a result file's content. Raises DataError for a file that is no result of this schema."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise DataError(f"{path}: {reason}. Allowed: a file that `irisflow bench --output` wrote.") from None
    if not isinstance(result, dict) or result.get("kind") != KIND:
        raise DataError(
            f"{path}: it is no result of `irisflow bench`. Allowed: a file that its --output wrote."
        )
    return result


def check_comparable(first: Result, second: Result, paths: tuple[Path, Path]) -> list[str]:
    """Return warnings about what differs. Raises ConfigError if the results are of other schemas or scales."""
    for key in MUST_AGREE:
        if first.get(key) != second.get(key):
            raise ConfigError(
                f"bench --compare: {key} is {first.get(key)!r} in {paths[0]} but {second.get(key)!r} in {paths[1]}."
                f" Allowed: two results of the same {key}. Measure one of them again."
            )
    if first["schema"] != SCHEMA:
        raise ConfigError(
            f"bench --compare: schema is {first['schema']!r} in both files, this version reads {SCHEMA}."
            " Measure both again."
        )
    return [
        f"{key} differs: {_short(first.get(key))} and {_short(second.get(key))}"
        for key in SHOULD_AGREE
        if first.get(key) != second.get(key)
    ]


def comparison(first: Result, second: Result) -> list[tuple[str, float, float]]:
    """Return phase and median seconds of both results, for the phases that both have, in the first one's order."""
    medians = [
        {row["phase"]: row["fast"]["seconds"]["median"] for row in result["phases"]}
        for result in (first, second)
    ]
    return [
        (phase, seconds, medians[1][phase]) for phase, seconds in medians[0].items() if phase in medians[1]
    ]


def _short(value: Any) -> str:
    return ", ".join(str(each) for each in value.values()) if isinstance(value, dict) else str(value)
