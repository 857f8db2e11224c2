"""How good the world models are: measurements of held-out episodes, read, checked and averaged over seeds.

docs/dataset-format.md says what each metric and mode means.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from irisflow.errors import DataError, nearest
from irisflow.statistics.coverage import check_runs
from irisflow.statistics.scores import Run
from irisflow.statistics.study import StudyDescription

COLUMNS = (
    "variant", "game", "seed", "env_step", "metric", "mode", "context", "horizon", "class", "value", "n",
)  # fmt: skip
HEADER = ",".join(COLUMNS)
TEXTS, OPTIONAL = ("variant", "game", "metric", "mode"), ("context", "horizon", "class")
MEND = "Delete this file and run its `measure_world_model` stage again."
CONFUSIONS = {"reward": 3, "end": 2}
OF_RUN, GREEDY = ["variant", "game", "seed"], "greedy"
DIGITS = 6  # of a number in the summary: a large study has half a million of them
Intervals = Sequence[Mapping[str, Any]]
MaybeLate = Intervals | Callable[[], Intervals]
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


def read_world_model(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the measurements of all files as `table` does, in the order of the files' names and rows.

    Raises DataError, one line with file, row and column, for an unknown or missing column, an ill-typed or
    non-finite value, and a number given twice.
    """
    files = sorted(paths)
    rows = _read_at_once(files)
    return rows if rows is not None else _read_row_by_row(files)


def read_told(paths: Iterable[Path]) -> pd.DataFrame:
    """Return of `read_world_model` what `world_model_summary` tells: of earlier weights the likeliest frames ahead only."""
    rows = read_world_model(paths)
    return rows[rows["horizon"].isna() | (rows["mode"] == GREEDY) | _is_last(rows)]


def table(rows: Iterable[Measured]) -> pd.DataFrame:
    """Return measurements with a row each and the columns of `Measured`; missing is what does not apply."""
    made = pd.DataFrame(list(rows), columns=list(Measured._fields))
    kinds = {"seed": "int64", "env_step": "int64", "value": "float64", "n": "int64"}
    return _typed(made.astype(kinds))


def rows_of(rows: pd.DataFrame, runs: Collection[Run]) -> pd.DataFrame:
    """Return the measurements of these runs."""
    own = pd.MultiIndex.from_frame(rows[["variant", "game", "seed"]])
    return rows[own.isin(list(runs))] if runs and not rows.empty else rows.iloc[:0]


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the measurements of all parts, in their order."""
    found = [rows for rows in parts if not rows.empty]
    return _typed(pd.concat(found, ignore_index=True)) if found else table(())


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Give names and what may be missing their types, in place."""
    for column in ("context", "horizon", "of_class"):
        rows[column] = rows[column].astype("Int64")
    for column in TEXTS:
        names = rows[column].astype("category")
        rows[column] = names.cat.set_categories(sorted(names.cat.categories))
    return rows


def _read_at_once(files: Sequence[Path]) -> pd.DataFrame | None:
    """Return what all files hold, parsed as one; None where anything in them is not as it should be.

    A large study has more than a million rows. What is wrong, and where, is found row by row.
    """
    if any(_bytes(file).partition(b"\n")[0] != HEADER.encode() for file in files):
        return None
    try:
        rows = _typed(
            pd.read_csv(
                io.BytesIO(b"".join(map(_body, files))),
                names=list(Measured._fields),
                dtype={
                    **dict.fromkeys(TEXTS, "category"),
                    **dict.fromkeys(("seed", "env_step", "n"), "int64"),
                    "value": "float64",
                },
                keep_default_na=False,
                na_values={column: [""] for column in ("context", "horizon", "of_class")},
                float_precision="round_trip",
                on_bad_lines="error",
            )
        )
    except (ValueError, TypeError, OverflowError):
        return None
    has_long_rows = not isinstance(rows.index, pd.RangeIndex)  # pandas took their first cells for names
    is_sound = (
        not has_long_rows
        and np.isfinite(rows["value"]).all()
        and not rows.duplicated(list(Measured._fields[:-2])).any()
    )
    return rows if is_sound else None


def _read_row_by_row(files: Sequence[Path]) -> pd.DataFrame:
    """Return the same, and name the first fault."""
    placed = [row for file in files for row in _read_file(file)]
    seen: dict[tuple[object, ...], tuple[Path, int]] = {}
    for place, row in placed:
        key = row[:-2]
        if key in seen:
            raise _error(place, "metric", row.metric, f"each number once (first in row {seen[key][1]})")
        seen[key] = place
    return table(row for _, row in placed)


def join_csv(paths: Iterable[Path]) -> bytes:
    """Return one CSV file of all, which `read_world_model` has found sound."""
    return b"".join([HEADER.encode(), b"\n", *(_body(file) for file in sorted(paths))])


def _body(path: Path) -> bytes:
    """Return a file's rows, whatever its first line says."""
    body = _bytes(path).partition(b"\n")[2]
    return body if body.endswith(b"\n") or not body else body + b"\n"


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
    study: StudyDescription,
    rows: pd.DataFrame,
    confusions: Mapping[Run, Confusions],
    intervals: MaybeLate = (),
) -> dict[str, Any]:
    """Return every number averaged over seeds, with the least and the greatest seed; empty without rows.

    `scalars` has one record a number, `curves` one a metric, mode and context over the horizon (of earlier weights
    in the mode `greedy` only), `confusion` the finished agents' counts, summed over seeds, `intervals` what
    `interval_records` gave; a function is called when all else is worked out. Numbers have six digits.
    Raises DataError for a run that is not the study's.
    """
    if rows.empty:
        return {}
    finished = rows.groupby(OF_RUN, observed=True)["env_step"].max()
    last = dict(zip(map(Run._make, finished.index), map(int, finished), strict=True))
    check_runs(study, last, what="world-model measurements")
    is_last = _is_last(rows)
    is_scalar = rows["horizon"].isna()
    cell = ["variant", "game", "env_step", "metric"]
    scalars = _over_seeds(rows[is_scalar], [*cell, "of_class"])
    points = _over_seeds(
        rows[~is_scalar & ((rows["mode"] == GREEDY) | is_last)], [*cell, "mode", "context", "horizon"]
    )
    return {
        "num_runs": len(last),
        "scalars": [
            {"class" if column == "of_class" else column: value for column, value in record.items()}
            for record in scalars
        ],
        "curves": _curves(points, [*cell, "mode", "context"]),
        "confusion": _confusion(last, confusions),
        "intervals": [
            dict(record)
            for record in (intervals() if callable(intervals) else intervals)
            if _is_of_all(record, last)
        ],
    }


def _is_of_all(record: Mapping[str, Any], last: Mapping[Run, int]) -> bool:
    """Return whether an interval is of all runs that a mean is over, and of their last weights."""
    cells = {(record["variant"], game) for game in record["games"]}
    steps = [step for run, step in last.items() if (run.variant, run.game) in cells]
    return steps == [record["env_step"]] * record["num_runs"]


def _is_last(rows: pd.DataFrame) -> pd.Series:
    """Return which measurements are of a run's last weights."""
    return rows["env_step"] == rows.groupby(OF_RUN, observed=True)["env_step"].transform("max")


def _over_seeds(rows: pd.DataFrame, key: list[str]) -> list[dict[str, Any]]:
    """Return a record a key, sorted by it: mean, least and greatest over seeds; what does not apply is None."""
    ordered = rows.sort_values([*key, "seed"], na_position="first", kind="stable")
    groups = ordered.groupby(key, sort=False, dropna=False, observed=True)
    found = groups.agg(
        mean=("value", "mean"),
        least=("value", "min"),
        greatest=("value", "max"),
        num_seeds=("value", "size"),
        n=("n", "sum"),
    ).reset_index()
    columns: dict[str, list[Any]] = {str(column): found[column].tolist() for column in found}
    for column in ("mean", "least", "greatest"):
        columns[column] = [float(f"{value:.{DIGITS}g}") for value in columns[column]]
    for column in set(key) & {"context", "horizon", "of_class"}:
        columns[column] = [None if value is pd.NA else value for value in columns[column]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _curves(points: Iterable[Mapping[str, Any]], key: Sequence[str]) -> list[dict[str, Any]]:
    """Return a record a key, of points that lie beside each other."""
    columns = ("horizon", "mean", "least", "greatest")
    curves = []
    for _, found in groupby(points, key=itemgetter(*key)):
        rows = list(found)
        curves.append(
            {
                **{column: rows[0][column] for column in key},
                **{column: [row[column] for row in rows] for column in columns},
                "num_seeds": min(row["num_seeds"] for row in rows),
            }
        )
    return curves


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None


def _read_file(path: Path) -> Iterator[tuple[tuple[Path, int], Measured]]:
    reader = csv.reader(io.StringIO(_text(path)))
    header = next(reader, [])
    for column in [*header, *COLUMNS]:
        if column not in COLUMNS or header.count(column) != 1:
            raise DataError(
                f"{path}, row 1: column {column!r} is unknown, missing or repeated{nearest(column, COLUMNS)}."
                f" Allowed: {', '.join(COLUMNS)}."
            )
    if tuple(header) != COLUMNS:
        raise DataError(f"{path}, row 1: the columns are in another order. Allowed: {HEADER}. {MEND}")
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
