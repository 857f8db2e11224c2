"""Whatever holds scores, read alike: studies, folders of scores, run folders, and score files of other people.

docs/comparing.md documents the file formats.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irisflow import games, paths
from irisflow.errors import ConfigError, DataError, nearest
from irisflow.statistics.configuration import with_changes
from irisflow.statistics.episode_score import COLUMNS, RANDOM_PLAY, EpisodeScore
from irisflow.statistics.records import Records, read_study_records
from irisflow.statistics.reference import possible_range
from irisflow.statistics.run_folder import EVALUATION, TRAINER, episodes_of, read_run_folder, records_of
from irisflow.statistics.scores import Run, read_scores
from irisflow.storage import open_artefact, verify

RUN_COLUMNS = ("variant", "game", "seed", "score")
PUBLISHED_COLUMNS = ("game", "algorithm", "run", "score", "source")
MEAN = "mean"  # stands in a published file's column `run` where only the mean of runs is known
LONGEST_NAME = 60
REPORT = ("summary.json", "summary.pdf", "summary.html", "provenance.json", "metrics.json")
COMPARISON = "compare"  # stands in a comparison's report where a study's has its name
FORMATS = (
    "a study's folder, a folder with scores.csv in or under it, a run folder (with evaluation/last.json), a .csv file of"
    f" scores ({','.join(RUN_COLUMNS)}; see docs/comparing.md), or a .json file (game: [scores])"
)
Found = Iterator[tuple[str, Run, float]]  # where a score stands, whose it is, the score


@dataclass(frozen=True)
class Source:
    """What one place gives: episodes where they are known, else mean scores of runs.

    `skipped` names what cannot be compared, `study` what the study's summary says about itself, `records` what is known
    beside scores and `lost` what of that is gone, in words. `configurations` are those of variants, by dotted keys.
    """

    label: str
    episodes: tuple[EpisodeScore, ...] = ()
    means: Mapping[Run, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    study: Mapping[str, Any] = field(default_factory=dict)
    records: Records = field(default_factory=Records)
    lost: str = ""
    configurations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """Every run, in the order in which it was found; random play is none."""
        played = (Run(row.variant, row.game, row.seed) for row in self.trained)
        return list(dict.fromkeys([*played, *self.means]))

    @property
    def trained(self) -> list[EpisodeScore]:
        """The episodes of trained agents."""
        return [row for row in self.episodes if row.variant != RANDOM_PLAY]

    @property
    def random_play(self) -> list[EpisodeScore]:
        """The episodes of random play."""
        return [row for row in self.episodes if row.variant == RANDOM_PLAY]


def read_source(place: Path, *, label: str | None = None) -> Source:
    """Return the scores of a file or folder. Raises ConfigError for another thing, DataError for a fault in it."""
    name = label or place.resolve().stem
    _refuse_report(place)
    if place.is_dir():
        found = _of_folder(place, name)
    elif place.suffix == ".csv" and place.is_file():
        found = _of_csv(place, name)
    elif place.suffix == ".json" and place.is_file():
        found = _of_pairs(name, place, _from_json(place, name))
    else:
        what = "has scores in no known format" if place.exists() else "does not exist"
        raise ConfigError(f"compare: {place} {what}. Allowed: {FORMATS}.")
    if not found.runs:
        raise DataError(f"{place}: found no run with a score, allowed: {FORMATS}.")
    return found


def _refuse_report(place: Path) -> None:
    """Raise ConfigError naming what is wanted if a place is a report, or a file of one."""
    folder = place if place.is_dir() else place.parent
    if place.is_dir():
        is_report = (place / "summary.json").is_file() and not any(place.rglob("scores.csv"))
    else:
        is_report = place.name in REPORT and place.is_file()
    if not is_report:
        return
    try:
        study = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["study"]
        name, scale = str(study["name"]), str(study["scale"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        if place.suffix not in (".pdf", ".html"):  # it may hold scores, under the same name
            return
        name, scale = "NAME", "SCALE"
    own = folder if (folder / "scores.csv").is_file() else paths.study(scale, name)
    wanted = f"its study's folder, {own}, or the scores.csv in it"
    if name == COMPARISON:
        wanted = "the sources that it compared"
    raise ConfigError(f"compare: {place} is a report, which the scores are not read from. Name {wanted}.")


def _of_folder(place: Path, label: str) -> Source:
    if (place / TRAINER).is_file():
        return _of_run_folder(place, label)
    if (place / "summary.json").is_file() and (place / "scores.csv").is_file():
        return _of_study(place, label)
    files = sorted(place.rglob("scores.csv"))
    if not files:
        raise ConfigError(f"compare: {place} has no scores.csv in or under it. Allowed: {FORMATS}.")
    for file in files:
        if (file.parent / "manifest.json").is_file():
            verify(file)
    return Source(label, tuple(read_scores(files)), files=tuple(files))


def _of_study(place: Path, label: str) -> Source:
    artefact = open_artefact(place, kind="study")
    for name in ("scores.csv", "summary.json"):
        verify(artefact.folder / name)
    study = json.loads((place / "summary.json").read_text(encoding="utf-8"))["study"]
    records, lost = read_study_records(place)
    base = dict(study.get("configuration", ()))  # an older summary has none
    return Source(
        label,
        tuple(read_scores([place / "scores.csv"])),
        files=(place / "scores.csv",),
        study=study,
        records=records,
        lost=lost,
        configurations={
            variant["name"]: with_changes(base, variant.get("changes", ()))
            for variant in study["variants"]
            if base
        },
    )


def _of_run_folder(place: Path, label: str) -> Source:
    """Return the last evaluation of a run by hand, and what the run wrote down."""
    folder, file = read_run_folder(place), place / EVALUATION
    run, score = _checked(str(file), *folder.cells)
    found = Source(
        label,
        means={run: score},
        files=(file,),
        configurations={run.variant: folder.configuration},
        lost="the agent that was evaluated is not there any more, so what it wrote down is not shown",
    )
    if (agent := folder.agent) is None:
        return found
    episodes = tuple(episodes_of(folder, agent, run))
    return replace(
        found,
        episodes=episodes,
        means={} if episodes else found.means,
        records=records_of(agent, run),
        lost="",
    )


def _of_csv(place: Path, label: str) -> Source:
    try:
        rows = list(csv.reader(io.StringIO(place.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{place}: cannot be read ({error}). Allowed: a CSV file in UTF-8.") from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    if set(header) >= {"return_raw", "episode"}:
        return Source(label, tuple(read_scores([place])), files=(place,))
    for columns, read in ((RUN_COLUMNS, _run_row), (PUBLISHED_COLUMNS, _published_row)):
        if sorted(header) == sorted(columns):
            found = _of_pairs(label, place, _from_csv(place, rows, header, read))
            skipped = {
                row[header.index("algorithm")] for row in rows[1:] if read is _published_row and MEAN in row
            }
            return replace(found, skipped=tuple(sorted(skipped)))
    known = {*RUN_COLUMNS, *PUBLISHED_COLUMNS, *COLUMNS}
    strange = next((column for column in header if column not in known), "")
    raise DataError(
        f"{place}, row 1: found the columns {','.join(header) or 'none'}"
        f"{nearest(strange, known) if strange else ''}. Allowed: {','.join(RUN_COLUMNS)} | {','.join(PUBLISHED_COLUMNS)} |"
        " those of irisflow's scores.csv."
    )


def _from_csv(
    place: Path,
    rows: list[list[str]],
    header: list[str],
    read: Callable[[Mapping[str, str]], tuple[str, ...] | None],
) -> Found:
    for number, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        where = f"{place}, row {number}"
        if len(cells) != len(header):
            raise DataError(
                f"{where}: found {len(cells)} cells, allowed: {len(header)} ({','.join(header)})."
            )
        row = read(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
        if row is not None:
            yield where, *_checked(where, *row)


def _run_row(cells: Mapping[str, str]) -> tuple[str, ...]:
    return cells["variant"], cells["game"], cells["seed"], cells["score"]


def _published_row(cells: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return a published run; None for what is a mean over runs, which no test may take for a run."""
    return None if cells["run"] == MEAN else (cells["algorithm"], cells["game"], cells["run"], cells["score"])


def _from_json(place: Path, label: str) -> Found:
    """Yield the runs of `{game: [scores]}`, or of `{variant: {game: [scores]}}`."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{place}: cannot be read as JSON ({error}). Allowed: {{game: [scores]}}.") from None
    by_variant = content if _is_nested(content) else {label: content}
    for variant, table in by_variant.items():
        if not isinstance(table, dict):
            raise DataError(f"{place}, key {variant}: found no object. Allowed: {{game: [scores]}}.")
        for game, scores in table.items():
            if not isinstance(scores, list):
                raise DataError(
                    f"{place}, key {game}: found {scores!r:.40}, allowed: a list of scores, one a run."
                )
            for seed, score in enumerate(scores):
                where = f"{place}, key {game}, number {seed + 1}"
                yield where, *_checked(where, str(variant), game, str(seed), str(score))


def _is_nested(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(value, dict) for value in content.values())


def _checked(where: str, variant: str, game: str, seed: str, score: str) -> tuple[Run, float]:
    """Return a run and its score. Raises DataError naming the column, what was found, and what is allowed."""
    if not variant or len(variant) > LONGEST_NAME or not variant.isprintable() or variant == RANDOM_PLAY:
        raise DataError(
            f"{where}, column variant: found {variant!r}, allowed: 1 to {LONGEST_NAME} characters that can be printed,"
            f" other than {RANDOM_PLAY!r}."
        )
    try:
        own = games.game_of(game)
    except ConfigError:
        raise DataError(
            f"{where}, column game: found {game!r}{nearest(game, games.known_games())}, allowed: a game that"
            " `irisflow list` prints, or a gymnasium id."
        ) from None
    if not seed.isascii() or not seed.isdigit():
        raise DataError(f"{where}, column seed: found {seed!r}, allowed: a whole number, 0 or more.")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}, column score: found {score!r}, allowed: a finite number.")
    bounds = possible_range(own)
    if bounds and not bounds[0] <= value <= bounds[1]:
        raise DataError(
            f"{where}, column score: found {value:g}, allowed: {bounds[0]:g} to {bounds[1]:g} in {own}."
        )
    return Run(variant, own, int(seed)), value


def _of_pairs(label: str, place: Path, found: Found) -> Source:
    means: dict[Run, float] = {}
    places: dict[Run, str] = {}
    for where, run, score in found:
        if run in means:
            raise DataError(
                f"{where}: {'/'.join(map(str, run))} has a score already ({places[run]}), allowed: each run once."
            )
        means[run], places[run] = score, where
    return Source(label, means=means, files=(place,))
