"""How good the world models are: measurements of held-out episodes, read, checked and averaged over seeds.

docs/dataset-format.md says what each metric and mode means.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from irisflow.errors import DataError, nearest
from irisflow.statistics.coverage import check_runs
from irisflow.statistics.scores import Run
from irisflow.statistics.study import StudyDescription

COLUMNS = (
    "variant", "game", "seed", "env_step", "metric", "mode", "context", "horizon", "class", "value", "n",
)  # fmt: skip
TEXTS, OPTIONAL = ("variant", "game", "metric", "mode"), ("context", "horizon", "class")
MEND = "Delete this file and run its `measure_world_model` stage again."
CONFUSIONS = {"reward": 3, "end": 2}
Confusions = Mapping[str, Mapping[str, Sequence[Sequence[int]]]]


class Measured(NamedTuple):
    """One number of one state of a run's weights. None stands for a column that does not apply."""

    variant: str
    game: str
    seed: int
    env_step: int
    metric: str
    mode: str
    context: int | None
    horizon: int | None
    of_class: int | None
    value: float
    n: int


def read_world_model(paths: Iterable[Path]) -> list[Measured]:
    """Return the measurements of all files, in the order of the files' names and rows.

    Raises DataError, one line with file, row and column, for an unknown or missing column, an ill-typed or
    non-finite value, and a number given twice.
    """
    placed = [row for path in sorted(paths) for row in _read_file(path)]
    seen: dict[tuple[object, ...], tuple[Path, int]] = {}
    for place, row in placed:
        key = row[:-2]
        if key in seen:
            raise _error(place, "metric", row.metric, f"each number once (first in row {seen[key][1]})")
        seen[key] = place
    return [row for _, row in placed]


def to_csv(rows: Iterable[Measured]) -> str:
    """Return the CSV text that `read_world_model` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()


def read_confusion(path: Path) -> Confusions:
    """Return env_step -> `reward` and `end` -> counts, rows real and columns predicted. Raises DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for matrices in content.values():
            for name, size in CONFUSIONS.items():
                if np.array(matrices[name], dtype=np.int64).shape != (size, size):
                    raise ValueError(f"{name} is no {size} x {size} matrix")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None
    return dict(content)


def world_model_summary(
    study: StudyDescription, rows: Sequence[Measured], confusions: Mapping[Run, Confusions]
) -> dict[str, Any]:
    """Return every number averaged over seeds, with the least and the greatest seed; empty without rows.

    `scalars` has one record a number, `curves` one a metric, mode and context over the horizon (of earlier weights
    in the mode `greedy` only), `confusion` the finished agents' counts, summed over seeds. Raises DataError for a
    run that is not the study's.
    """
    if not rows:
        return {}
    check_runs(study, (Run(row.variant, row.game, row.seed) for row in rows), what="world-model measurements")
    last = _last_steps(rows)
    scalars: dict[tuple[Any, ...], list[Measured]] = {}
    curves: dict[tuple[Any, ...], dict[int, list[Measured]]] = {}
    for row in rows:
        cell = (row.variant, row.game, row.env_step, row.metric)
        if row.horizon is None:
            scalars.setdefault((*cell, row.of_class), []).append(row)
        elif row.mode == "greedy" or row.env_step == last[Run(*row[:3])]:
            curves.setdefault((*cell, row.mode, row.context), {}).setdefault(row.horizon, []).append(row)
    return {
        "num_runs": len({row[:3] for row in rows}),
        "scalars": [_scalar(key, scalars[key]) for key in sorted(scalars, key=_place)],
        "curves": [_curve(key, curves[key]) for key in sorted(curves, key=_place)],
        "confusion": _confusion(last, confusions),
    }


def _place(key: Sequence[Any]) -> list[tuple[bool, Any]]:
    """Return what sorts keys that may have None in them."""
    return [(cell is not None, cell) for cell in key]


def _last_steps(rows: Iterable[Measured]) -> dict[Run, int]:
    """Return after how many steps each run's agent was finished."""
    last: dict[Run, int] = {}
    for row in rows:
        run = Run(*row[:3])
        last[run] = max(last.get(run, 0), row.env_step)
    return last


def _read_file(path: Path) -> Iterator[tuple[tuple[Path, int], Measured]]:
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None
    header = next(reader, [])
    for column in [*header, *COLUMNS]:
        if column not in COLUMNS or header.count(column) != 1:
            raise DataError(
                f"{path}, row 1: column {column!r} is unknown, missing or repeated{nearest(column, COLUMNS)}."
                f" Allowed: {', '.join(COLUMNS)}."
            )
    for row_number, cells in enumerate(reader, start=2):
        if cells:
            yield (path, row_number), _parsed((path, row_number), header, cells)


def _parsed(place: tuple[Path, int], header: list[str], cells: list[str]) -> Measured:
    if len(cells) != len(header):
        raise _error(place, header[min(len(cells), len(header) - 1)], cells, f"{len(header)} cells in a row")
    given = dict(zip(header, cells, strict=True))
    values: dict[str, Any] = {}
    for column in COLUMNS:
        cell = given[column].strip()
        try:
            values["of_class" if column == "class" else column] = _value(column, cell)
        except ValueError:
            allowed = "a finite number" if column == "value" else "a whole number"
            raise _error(place, column, cell, allowed) from None
    return Measured(**values)


def _value(column: str, cell: str) -> str | int | float | None:
    if column in TEXTS:
        return cell
    if column == "value":
        value = float(cell)
        if not math.isfinite(value):
            raise ValueError(cell)
        return value
    return None if column in OPTIONAL and not cell else int(cell)


def _error(place: tuple[Path, int], column: str, found: object, allowed: str) -> DataError:
    return DataError(
        f"{place[0]}, row {place[1]}, column {column}: found {found!r}, allowed: {allowed}. {MEND}"
    )


def _scalar(key: tuple[Any, ...], rows: Sequence[Measured]) -> dict[str, Any]:
    variant, game, env_step, metric, of_class = key
    return {
        "variant": variant,
        "game": game,
        "env_step": env_step,
        "metric": metric,
        "class": of_class,
        **_over_seeds(rows),
    }


def _curve(key: tuple[Any, ...], by_horizon: Mapping[int, Sequence[Measured]]) -> dict[str, Any]:
    variant, game, env_step, metric, mode, context = key
    points = [_over_seeds(by_horizon[horizon]) for horizon in sorted(by_horizon)]
    return {
        "variant": variant,
        "game": game,
        "env_step": env_step,
        "metric": metric,
        "mode": mode,
        "context": context,
        "horizon": sorted(by_horizon),
        **{name: [point[name] for point in points] for name in ("mean", "least", "greatest")},
        "num_seeds": min(point["num_seeds"] for point in points),
    }


def _over_seeds(rows: Sequence[Measured]) -> dict[str, Any]:
    values = [row.value for row in sorted(rows, key=lambda row: row.seed)]  # the rows' order must not matter
    return {
        "mean": float(np.mean(values)),
        "least": min(values),
        "greatest": max(values),
        "num_seeds": len(values),
        "n": sum(row.n for row in rows),
    }


def _confusion(last: Mapping[Run, int], confusions: Mapping[Run, Confusions]) -> list[dict[str, Any]]:
    """Return one record per variant and game: counts of the finished agents, summed over seeds."""
    totals: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for run in sorted(last):
        for name, counts in confusions.get(run, {}).get(str(last[run]), {}).items():
            matrices = totals.setdefault((run.variant, run.game), {})
            matrices[name] = matrices.get(name, 0) + np.array(counts, np.int64)
    return [
        {"variant": variant, "game": game, **{name: counts.tolist() for name, counts in matrices.items()}}
        for (variant, game), matrices in totals.items()
    ]
