"""Which runs of a study are there, and which block of them the aggregates can use."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from irisflow.errors import DataError
from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.scores import Run
from irisflow.statistics.study import StudyDescription


@dataclass(frozen=True)
class Block:
    """Games, and of each variant the seeds that have run on all of them: what rliable can compare without a gap."""

    games: tuple[str, ...]
    runs: Mapping[str, tuple[int, ...]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the variant that has the fewest."""
        return min(self.runs.values(), key=len, default=())


def check_runs(study: StudyDescription, runs: Iterable[Run], *, what: str) -> None:
    """Raise DataError for a run, of which there are `what`, whose variant, game or seed is not of the study."""
    for run in dict.fromkeys(runs):
        seeds = study.seeds_of(run.variant)
        allowed = {"variant": study.variant_names, "game": study.games, "seed": seeds}
        for column, values in allowed.items():
            if (found := getattr(run, column)) not in values:
                raise DataError(
                    f"{what} of study {study.name}, run {run.variant}/{run.game}/seed-{run.seed}, column {column}:"
                    f" found {found!r}, allowed: {', '.join(map(str, values))}."
                    f" Give the report this study's {what} only."
                )


def check_belongs(
    study: StudyDescription, episodes: Collection[EpisodeScore], means: Collection[Run]
) -> None:
    """Raise DataError for a score that is not of the study, and for a variant without a final one (`means`)."""
    runs = (Run(episode.variant, episode.game, episode.seed) for episode in episodes)
    check_runs(study, (*runs, *means), what="scores")
    present = {run.variant for run in means}
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
        for seed in study.seeds_of(variant.name)
    ]
    return [run for run in planned if run not in runs]


def common_block(study: StudyDescription, runs: Collection[Run]) -> Block:
    """Return the largest block of games x seeds in which no variant lacks a run; empty if there is none.

    Of equally large blocks, the one with more games. Where variants have seeds of their own, all games that each of
    them has, with all seeds that each has on those.
    """
    if study.own_seeds:
        return _own_block(study, runs)
    common = {game: _common_seeds(study, game, runs) for game in study.games}
    candidates: set[frozenset[int]] = set()
    for seeds in common.values():
        candidates |= {seeds} | {seeds & other for other in candidates}
    blocks = [_block(study.games, common, seeds) for seeds in candidates if seeds]
    games, shared = max(blocks, key=_size, default=((), ()))
    return Block(games, dict.fromkeys(study.variant_names, shared))


def _own_block(study: StudyDescription, runs: Collection[Run]) -> Block:
    names = study.variant_names
    games = tuple(
        game
        for game in study.games
        if all(any(Run(name, game, seed) in runs for seed in study.seeds_of(name)) for name in names)
    )
    whole = {
        name: tuple(
            seed for seed in study.seeds_of(name) if all(Run(name, game, seed) in runs for game in games)
        )
        for name in names
    }
    return Block(games, whole) if games and all(whole.values()) else Block((), dict.fromkeys(names, ()))


def _common_seeds(study: StudyDescription, game: str, runs: Collection[Run]) -> frozenset[int]:
    return frozenset(
        seed for seed in study.seeds if all(Run(name, game, seed) in runs for name in study.variant_names)
    )


def _block(
    games: Sequence[str], common: dict[str, frozenset[int]], seeds: frozenset[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(game for game in games if common[game] >= seeds), tuple(sorted(seeds))


def _size(block: tuple[tuple[str, ...], tuple[int, ...]]) -> tuple[int, int, list[int]]:
    games, seeds = block
    return len(games) * len(seeds), len(games), [-seed for seed in seeds]
