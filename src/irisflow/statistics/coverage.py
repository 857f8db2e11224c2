"""Which runs of a study are there, and which block of them the aggregates can use."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from irisflow.errors import DataError
from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.scores import Run
from irisflow.statistics.study import StudyDescription


@dataclass(frozen=True)
class Block:
    """Games and seeds for which every variant has a run: what rliable can compare without a gap."""

    games: tuple[str, ...]
    seeds: tuple[int, ...]


def check_runs(study: StudyDescription, runs: Iterable[Run], *, what: str) -> None:
    """Raise DataError for a run, of which there are `what`, whose variant, game or seed is not of the study."""
    allowed = {"variant": study.variant_names, "game": study.games, "seed": study.seeds}
    for run in dict.fromkeys(runs):
        for column, values in allowed.items():
            if (found := getattr(run, column)) not in values:
                raise DataError(
                    f"{what} of study {study.name}, run {run.variant}/{run.game}/seed-{run.seed}, column {column}:"
                    f" found {found!r}, allowed: {', '.join(map(str, values))}."
                    f" Give the report this study's {what} only."
                )


def check_belongs(study: StudyDescription, episodes: Collection[EpisodeScore]) -> None:
    """Raise DataError for a score that is not of the study, and for a variant without final scores."""
    runs = (Run(episode.variant, episode.game, episode.seed) for episode in episodes)
    check_runs(study, runs, what="scores")
    present = {episode.variant for episode in episodes if episode.split == "final"}
    for name in study.variant_names:
        if name not in present:
            raise DataError(
                f"scores of study {study.name}, column variant: found no final score of {name!r}, allowed:"
                f" at least one run"
                " of each variant. Run its `evaluate` stage, or take it out of the study."
            )


def missing_runs(study: StudyDescription, runs: Collection[Run]) -> list[Run]:
    """Return the planned runs that have no final score, in the study's order."""
    planned = [
        Run(variant.name, game, seed)
        for variant in study.ordered_variants
        for game in study.games
        for seed in study.seeds
    ]
    return [run for run in planned if run not in runs]


def common_block(study: StudyDescription, runs: Collection[Run]) -> Block:
    """Return the largest block of games x seeds in which no variant lacks a run; empty if there is none.

    Of equally large blocks, the one with more games.
    """
    common = {game: _common_seeds(study, game, runs) for game in study.games}
    candidates: set[frozenset[int]] = set()
    for seeds in common.values():
        candidates |= {seeds} | {seeds & other for other in candidates}
    blocks = [_block(study.games, common, seeds) for seeds in candidates if seeds]
    return max(blocks, key=_size, default=Block((), ()))


def _common_seeds(study: StudyDescription, game: str, runs: Collection[Run]) -> frozenset[int]:
    return frozenset(
        seed for seed in study.seeds if all(Run(name, game, seed) in runs for name in study.variant_names)
    )


def _block(games: Sequence[str], common: dict[str, frozenset[int]], seeds: frozenset[int]) -> Block:
    return Block(tuple(game for game in games if common[game] >= seeds), tuple(sorted(seeds)))


def _size(block: Block) -> tuple[int, int, list[int]]:
    return len(block.games) * len(block.seeds), len(block.games), [-seed for seed in block.seeds]
