"""Readers of what the stages leave beside their results: costs, provenance, training metrics."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from irisflow.errors import DataError

COMPONENTS = ("tokenizer", "world_model", "actor_critic")
Kinds = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
COST: Kinds = {
    "stage": (str,),
    "variant": (str, type(None)),
    "game": (str, type(None)),
    "seed": (int, type(None)),
    "run_id": (str,),
    "wall_s": NUMBER,
    "env_steps": (int,),
    "num_updates": (dict,),
    "peak_rss_mb": NUMBER,
    "device": (str,),
    "parameters": (dict, type(None)),
}
MORE_PROVENANCE: Kinds = {
    "diff_sha256": (str, type(None)),
    "diff_bytes": (int, type(None)),
    "diff_file": (str, type(None)),
    "lock_sha256": (str, type(None)),
    "cartridges": (dict,),
    "initial_weights": (dict,),
}  # older jobs did not tell them
MORE_COST: Kinds = {
    "num_starts": (int,),
    "num_resumes": (int,),
    "num_interrupted": (int,),
    "num_died": (int,),
}  # of work that can be continued; older jobs did not count them
PROVENANCE: Kinds = {
    "stage": (str,),
    "digest": (str,),
    "commit": (str, type(None)),
    "branch": (str, type(None)),
    "dirty": (bool, type(None)),
    "versions": (dict,),
    "hardware": (dict,),
    "computing": (dict,),
    "seeds": (dict,),
    "inputs": (dict,),
    "command": (str, list, type(None)),
}


def read_costs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return one record per stage job, in the order of the paths' names.

    Seconds, megabytes and counts. Raises DataError with file and key for what is missing, ill-typed or not
    finite.
    """
    return [_checked(path, COST, MORE_COST) for path in sorted(paths)]


def read_provenance(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return one record per stage job, in the order of the paths. Raises DataError as `read_costs` does."""
    return [_checked(path, PROVENANCE, MORE_PROVENANCE) for path in sorted(paths)]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return one record per epoch of an agent's training: `epoch`, `env_steps`, `PART/train/TERM`, ...

    Raises DataError with file and row.
    """
    return _epochs(path, ("epoch", "env_steps"))


def read_timings(path: Path) -> list[dict[str, float]]:
    """Return what the phases of each epoch took: `epoch`, and `seconds/PHASE` with rates, shares and megabytes.

    Older runs have the seconds only. Raises DataError with file and row.
    """
    return _epochs(path, ("epoch",))


def _epochs(path: Path, wanted: Iterable[str]) -> list[dict[str, float]]:
    """Return the numbers of each row, in which `wanted` must be counts."""
    rows = []
    for row_number, line in enumerate(_text(path).splitlines(), start=1):
        row = _parsed(path, line, f", row {row_number}")
        for key in wanted:
            _check_kind(f"{path}, row {row_number}", row, key, (int,))
        rows.append(_numbers(f"{path}, row {row_number}", row))
    return rows


def _numbers(where: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a number in a row. Raises DataError if one is not finite."""
    with suppress(OverflowError):
        numbers = {key: float(value) for key, value in row.items() if isinstance(value, NUMBER)}
        if all(map(math.isfinite, numbers.values())):
            return numbers
    raise DataError(f"{where}: a number is too large or not finite. Run its stage again.")


def _checked(path: Path, kinds: Kinds, optional: Kinds | None = None) -> dict[str, Any]:
    record = _parsed(path, _text(path), "")
    known = {key: allowed for key, allowed in (optional or {}).items() if key in record}
    for key, allowed in {**kinds, **known}.items():
        _check_kind(str(path), record, key, allowed)
    return record


def _check_kind(where: str, record: dict[str, Any], key: str, allowed: tuple[type, ...]) -> None:
    names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
    found = repr(record[key])[:80] if key in record else "nothing"
    is_allowed = key in record and isinstance(record[key], allowed)
    is_confused = isinstance(record.get(key), bool) and bool not in allowed
    is_broken = isinstance(record.get(key), float) and not math.isfinite(record[key])
    if not is_allowed or is_confused or is_broken:
        raise DataError(f"{where}: key {key!r}: found {found}, allowed: {names}. Run its stage again.")


def _parsed(path: Path, text: str, row: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}{row}: is not JSON ({error}). Run its stage again.") from None
    if not isinstance(record, dict):
        raise DataError(
            f"{path}{row}: found {type(record).__name__}, allowed: a JSON object. Run its stage again."
        )
    return record


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run its stage again.") from None
