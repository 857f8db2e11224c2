"""Scores of evaluation episodes: the CSV between the stages and the report, its checks, means of runs.

The order of averaging is fixed: episodes -> mean of a run (variant, game, seed) -> metrics over runs and
games. Treating episodes as runs would make every interval far too narrow.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from irisflow.errors import DataError, nearest
from irisflow.statistics.episode_score import COLUMNS, EpisodeScore
from irisflow.statistics.reference import possible_range


class Run(NamedTuple):
    """One trained agent."""

    variant: str
    game: str
    seed: int


SPLITS = ("final", "curve")
PROTOCOL = ("temperature", "epsilon", "sticky", "full_action_set")  # how a game is played to score an agent
Place = tuple[Path, int]


def read_scores(paths: Iterable[Path]) -> list[EpisodeScore]:
    """Return the episodes of all files, sorted; final and curve rows may be mixed.

    Raises DataError, one line with file, row and column, for an unknown or missing column, a value of the
    wrong type, a non-finite or impossible score, a duplicate, a run id of two runs, two runs of one cell, or
    mixed protocols.
    """
    placed = [row for path in sorted(paths) for row in _read_file(path)]
    _check_duplicates(placed)
    _check_runs(placed)
    _check_protocol(placed)
    return sorted(episode for _, episode in placed)


def run_means(episodes: Iterable[EpisodeScore]) -> dict[Run, float]:
    """Return the mean raw score of every run's final evaluation."""
    returns: dict[Run, list[float]] = {}
    for episode in sorted(episodes):
        if episode.split == "final":
            returns.setdefault(Run(episode.variant, episode.game, episode.seed), []).append(
                episode.return_raw
            )
    return {run: float(np.mean(scores)) for run, scores in returns.items()}


def curve_means(episodes: Iterable[EpisodeScore]) -> dict[Run, dict[int, float]]:
    """Return the mean raw score of every run at every evaluation while training: run -> env_step -> score."""
    returns: dict[Run, dict[int, list[float]]] = {}
    for episode in sorted(episodes):
        if episode.split == "curve":
            steps = returns.setdefault(Run(episode.variant, episode.game, episode.seed), {})
            steps.setdefault(episode.env_step, []).append(episode.return_raw)
    return {
        run: {step: float(np.mean(scores)) for step, scores in sorted(steps.items())}
        for run, steps in returns.items()
    }


def score_matrix(
    means: Mapping[Run, float], variant: str, *, games: Sequence[str], seeds: Sequence[int]
) -> Float[np.ndarray, "seeds games"]:
    """Return one variant's scores, a row per seed and a column per game. Every cell must exist."""
    cells = [[means[Run(variant, game, seed)] for game in games] for seed in seeds]
    return np.array(cells, dtype=np.float64).reshape(len(seeds), len(games))


def _read_file(path: Path) -> Iterator[tuple[Place, EpisodeScore]]:
    """Yield a file's rows with their places; the first row after the header is row 2."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Run the stage `evaluate` of this run again."
        ) from None
    reader = csv.reader(io.StringIO(text))
    header = next(reader, [])
    _check_header(path, header)
    for row_number, cells in enumerate(reader, start=2):
        if cells:
            yield (path, row_number), _parse_row((path, row_number), header, cells)


def _check_header(path: Path, header: list[str]) -> None:
    for column in header:
        if column not in COLUMNS or header.count(column) > 1:
            raise DataError(
                f"{path}, row 1: column {column!r} is unknown or repeated{nearest(column, COLUMNS)}."
                f" Allowed: {', '.join(COLUMNS)}."
            )
    if missing := [column for column in COLUMNS if column not in header]:
        raise DataError(
            f"{path}, row 1: column {missing[0]!r} is missing. Run the stage `evaluate` of this run again."
        )


def _parse_row(place: Place, header: list[str], cells: list[str]) -> EpisodeScore:
    if len(cells) != len(header):
        raise _error(place, header[min(len(cells), len(header) - 1)], cells, f"{len(header)} cells in a row")
    values: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=True):
        try:
            values[column] = _parsed(column, cell)
        except ValueError as error:
            raise _error(place, column, cell, str(error)) from None
    episode = EpisodeScore(**values)
    bounds = possible_range(episode.game)
    if bounds and not bounds[0] <= episode.return_raw <= bounds[1]:
        raise _error(
            place, "return_raw", episode.return_raw, f"{bounds[0]:g} to {bounds[1]:g} in {episode.game}"
        )
    return episode


@lru_cache(2**12)  # a study has a hundred thousand rows, and few values in most of their columns
def _parsed(column: str, cell: str) -> object:
    return PARSERS[column](cell.strip())


def _error(place: Place, column: str, found: object, allowed: str) -> DataError:
    return DataError(
        f"{place[0]}, row {place[1]}, column {column}: found {found!r}, allowed: {allowed}."
        " Delete this file and run its `evaluate` stage again."
    )


def _finite(cell: str) -> float:
    try:
        value = float({"true": "1", "false": "0"}.get(cell.lower(), cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def _count(cell: str) -> int:
    if not cell.isascii() or not cell.isdigit():
        raise ValueError("a whole number, 0 or more")
    return int(cell)


def _truth(cell: str) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    if cell.lower() not in known:
        raise ValueError("True or False")
    return known[cell.lower()]


def _text(cell: str) -> str:
    if not cell:
        raise ValueError("a name")
    return cell


def _split(cell: str) -> str:
    if cell not in SPLITS:
        raise ValueError(" or ".join(SPLITS))
    return cell


_BY_TYPE: dict[Any, Callable[[str], object]] = {str: _text, int: _count, float: _finite, bool: _truth}
PARSERS: dict[str, Callable[[str], object]] = {
    **{column: _BY_TYPE[kind] for column, kind in EpisodeScore.__annotations__.items()},
    "split": _split,
    "axis": str,
    "checkpoint_sha256": str,
}


def _check_duplicates(placed: Iterable[tuple[Place, EpisodeScore]]) -> None:
    seen: dict[tuple[object, ...], Place] = {}
    for place, row in placed:
        key = (row.variant, row.game, row.seed, row.split, row.env_step, row.episode)
        if key in seen:
            first = seen[key]
            raise _error(
                place, "episode", row.episode, f"each episode once (first in {first[0]}, row {first[1]})"
            )
        seen[key] = place


def _check_runs(placed: Iterable[tuple[Place, EpisodeScore]]) -> None:
    """Refuse a run id that two runs share, and a run with two ids or two final checkpoints."""
    run_of: dict[str, Run] = {}
    id_of: dict[Run, str] = {}
    checkpoint_of: dict[Run, str] = {}
    for place, row in placed:
        run = Run(row.variant, row.game, row.seed)
        if run_of.setdefault(row.run_id, run) != run:
            other = run_of[row.run_id]
            raise _error(
                place, "seed", row.seed, f"the run id {row.run_id} is {'/'.join(map(str, other))} elsewhere"
            )
        if id_of.setdefault(run, row.run_id) != row.run_id:
            raise _error(
                place, "run_id", row.run_id, f"{id_of[run]}, as elsewhere for {'/'.join(map(str, run))}"
            )
        if (
            row.split == "final"
            and checkpoint_of.setdefault(run, row.checkpoint_sha256) != row.checkpoint_sha256
        ):
            raise _error(
                place, "checkpoint_sha256", row.checkpoint_sha256, f"one per run, {checkpoint_of[run]}"
            )


def _check_protocol(placed: Iterable[tuple[Place, EpisodeScore]]) -> None:
    """Refuse final scores of one game that were not measured alike."""
    expected: dict[tuple[str, str], object] = {}
    for place, row in placed:
        if row.split == "final":
            for column in PROTOCOL:
                value = getattr(row, column)
                if expected.setdefault((row.game, column), value) != value:
                    raise _error(
                        place, column, value, f"{expected[row.game, column]}, as elsewhere in {row.game}"
                    )
