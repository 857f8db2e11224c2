"""Several sources of scores as one study: names that do not collide, games and seeds, and what may be compared."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import relpath
from pathlib import Path
from typing import Any

from irisflow.errors import ConfigError, DataError, nearest
from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.gathering import (
    changes_of,
    configuration_of,
    gathered,
    made_otherwise,
    written_changes_of,
)
from irisflow.statistics.quality_intervals import interval_records
from irisflow.statistics.records import Records
from irisflow.statistics.scores import PROTOCOL, Run
from irisflow.statistics.sources import COMPARISON, Source
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.summary import summarise

IRIS = "iris"
SMALLEST_FIRST = ("smoke", "quick")  # the least of the scales is what the comparison is worth


@dataclass(frozen=True)
class Comparison:
    """What `summarise` is given: a study that was never planned, its episodes, and the runs known by their means."""

    study: StudyDescription
    episodes: list[EpisodeScore]
    random_play: list[EpisodeScore]
    means: dict[Run, float]
    records: Records
    remarks: list[dict[str, str]]

    def summarise(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of the report. `source` is the provenance of the comparison itself."""
        return summarise(
            self.study,
            self.episodes,
            self.episodes,
            [job.cost for job in self.records.jobs],
            [*(job.provenance for job in self.records.jobs), source],
            metrics=self.records.each("metrics"),
            timings=self.records.each("timings"),
            random_play=self.random_play,
            world_model=self.records.world_model,
            from_elsewhere=self.means,
            confusions=self.records.each("confusions"),
            intervals=interval_records(self.study, self.records.each("stretches")),
            remarks=self.remarks,
            jobs=[job.record for job in self.records.jobs],
        )

    def pictures(self, kind: str) -> dict[tuple[str, str, int], Path]:
        """Return the file of `reconstructions` or of a `film` of each run that has one, as the report takes them."""
        return {(*run,): file for run, file in self.records.each(kind).items()}

    def folders(self, report: Path) -> dict[tuple[str, str, int], str]:
        """Return the folder in which each run was trained, as seen from the report's."""
        trained = (job for job in self.records.jobs if job.run and job.cost["stage"] == "train_agent")
        return {(*job.run,): relpath(job.folder, report) for job in trained if job.run}


def compared(
    sources: Sequence[Source],
    *,
    baseline: str | None = None,
    games: Sequence[str] = (),
    title: str | None = None,
    reps: int | None = None,
    allow_mixed: bool = False,
) -> Comparison:
    """Return the sources as one study over the games of the first, or those that are named.

    A variant keeps its name; of two sources that both have a run of the same variant, game and seed, each puts its label
    before its names. `reps` are the resamples of the intervals: None for as many as the studies' own, or 2,000. Raises
    ConfigError for a baseline or game that no source has, DataError for scores of one game that were not measured alike,
    unless `allow_mixed`.
    """
    named = _with_names(sources)
    wanted = _games(named, games)
    episodes = [row for source in named for row in source.trained if row.game in wanted]
    means = {run: score for source in named for run, score in source.means.items() if run.game in wanted}
    runs = list(dict.fromkeys(run for source in named for run in source.runs if run.game in wanted))
    variants = list(dict.fromkeys(run.variant for run in runs))
    if baseline is not None and baseline not in variants:
        raise ConfigError(
            f"compare, key baseline: found {baseline!r}{nearest(baseline, variants)}, allowed: {', '.join(variants)}."
        )
    is_mixed = _is_mixed(episodes, allow_mixed=allow_mixed)
    seeds = {name: _seeds(named, name) for name in variants}
    chosen = baseline or _baseline(named, variants)
    records, remarks = gathered(named, runs, baseline=chosen)
    study = StudyDescription(
        name=COMPARISON,
        title=title or "Comparison of " + ", ".join(source.label for source in sources),
        scale="mixed" if is_mixed else _scale(sources),
        scale_note="Scores of " + "; ".join(_told(source) for source in sources),
        games=tuple(wanted),
        variants=_described(named, variants, chosen),
        baseline=chosen,
        seeds=tuple(sorted({seed for found in seeds.values() for seed in found})),
        num_evaluation_episodes=min(_planned(sources, "num_evaluation_episodes"), default=1),
        bootstrap_reps=reps or max(_planned(sources, "bootstrap_reps"), default=2000),
        full_protocol=all(source.study.get("full_protocol", False) for source in sources),
        own_seeds=seeds,
        configuration=tuple(sorted((configuration_of(named, chosen) or {}).items())),
    )
    random_play = _random_play(named, wanted)
    return Comparison(study, episodes, random_play, means, records, remarks)


def _planned(sources: Sequence[Source], key: str) -> list[int]:
    """Return what each study among the sources planned."""
    return [int(source.study[key]) for source in sources if source.study]


def _with_names(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with their labels before their variants' names, where two have other scores for a run.

    A run that two studies share, with the same scores, is kept in the first. Where variants of one name were made with
    several configurations, those of each have the label of the first source that made them so.
    """
    scores: dict[Run, object] = {}
    shared: list[set[Run]] = []
    repeated: set[str] = set()
    for source in sources:
        own = _scores(source)
        repeated |= {run.variant for run, found in own.items() if scores.get(run, found) != found}
        shared.append(own.keys() & scores.keys())
        scores |= own
    kept = [
        _without(source, {run for run in runs if run.variant not in repeated})
        for source, runs in zip(sources, shared, strict=True)
    ]
    otherwise = made_otherwise(kept)
    if not repeated and not otherwise:
        return kept
    labels = [source.label for source in sources]
    if len(set(labels)) < len(labels):
        raise ConfigError(
            f"compare: {', '.join(sorted({*repeated, *otherwise}))} is in sources with one label ({', '.join(labels)})."
            " Give each a name: LABEL=PATH."
        )
    return [
        _renamed(
            source,
            {name: f"{labels[like[place]]}: {name}" for name, like in otherwise.items()}
            | {name: f"{source.label}: {name}" for name in repeated},
        )
        for place, source in enumerate(kept)
    ]


def _scores(source: Source) -> dict[Run, object]:
    """Return all that is known of each run."""
    found: dict[Run, list[object]] = {run: [score] for run, score in source.means.items()}
    for row in source.trained:
        found.setdefault(Run(row.variant, row.game, row.seed), []).append(row._replace(axis=""))
    return {run: sorted(rows, key=repr) for run, rows in found.items()}


def _without(source: Source, runs: Collection[Run]) -> Source:
    episodes = tuple(row for row in source.episodes if Run(row.variant, row.game, row.seed) not in runs)
    means = {run: score for run, score in source.means.items() if run not in runs}
    return replace(source, episodes=episodes, means=means)


def _renamed(source: Source, names: Mapping[str, str]) -> Source:
    def told(name: str) -> str:
        return names.get(name, name)

    episodes = tuple(
        row._replace(variant=told(row.variant), run_id=f"{source.label}: {row.run_id}")
        for row in source.episodes
    )
    means = {run._replace(variant=told(run.variant)): score for run, score in source.means.items()}
    study = dict(source.study)
    if study:
        study["baseline"] = told(study["baseline"])
        study["variants"] = [{**found, "name": told(found["name"])} for found in study["variants"]]
    configurations = {told(name): found for name, found in source.configurations.items()}
    records = source.records.renamed(told)
    return replace(
        source, episodes=episodes, means=means, study=study, configurations=configurations, records=records
    )


def _games(sources: Sequence[Source], chosen: Sequence[str]) -> list[str]:
    present = {run.game for source in sources for run in source.runs}
    for game in chosen:
        if game not in present:
            raise ConfigError(
                f"compare, key games: found {game!r}{nearest(game, present)}, allowed: {', '.join(sorted(present))}."
            )
    first = sources[0]
    return list(chosen) or list(first.study.get("games", sorted({run.game for run in first.runs})))


def _is_mixed(episodes: Sequence[EpisodeScore], *, allow_mixed: bool) -> bool:
    expected: dict[str, EpisodeScore] = {}
    for row in (row for row in episodes if row.split == "final"):
        first = expected.setdefault(row.game, row)
        for column in PROTOCOL:
            if getattr(row, column) != getattr(first, column):
                if allow_mixed:
                    return True
                raise DataError(
                    f"compare: {row.game} was not played alike: {column} is {getattr(first, column)} for {first.variant} and"
                    f" {getattr(row, column)} for {row.variant}. Evaluate one again, or --allow-mixed: it stamps each page."
                )
    return False


def _seeds(sources: Sequence[Source], variant: str) -> tuple[int, ...]:
    """Return the seeds that a variant has anywhere, and those that its study planned."""
    found = {run.seed for source in sources for run in source.runs if run.variant == variant}
    for source in sources:
        if any(described["name"] == variant for described in source.study.get("variants", ())):
            found.update(source.study["seeds"])
    return tuple(sorted(found))


def _scale(sources: Sequence[Source]) -> str:
    scales = {source.study.get("scale", "compared") for source in sources}
    return (
        next((scale for scale in SMALLEST_FIRST if scale in scales), "compared")
        if len(scales) > 1
        else scales.pop()
    )


def _told(source: Source) -> str:
    note = source.study.get("scale_note")
    return f"{source.label} ({note})" if note else f"{source.label} ({len(source.runs)} runs)"


def _described(
    sources: Sequence[Source], names: Sequence[str], baseline: str
) -> tuple[VariantDescription, ...]:
    """Return what is known of each variant, from the first source that says it."""
    known = {found["name"]: found for source in sources[::-1] for found in source.study.get("variants", ())}
    axes = {row.variant: row.axis for source in sources[::-1] for row in source.episodes}
    origin = {run.variant: source.label for source in sources for run in source.runs}
    return tuple(
        VariantDescription(
            name,
            known[name]["question"] if name in known else f"From {origin[name]}",
            known[name]["axis"] if name in known else axes.get(name, ""),
            changes_of(sources, name, baseline),
            written_changes_of(sources, name, baseline),
        )
        for name in names
    )


def _baseline(sources: Sequence[Source], variants: Sequence[str]) -> str:
    named = [source.study["baseline"] for source in sources if source.study]
    return next((name for name in (*named, IRIS) if name in variants), variants[0])


def _random_play(sources: Sequence[Source], games: Sequence[str]) -> list[EpisodeScore]:
    """Return random play's episodes, of each run of it once: studies share them."""
    found = {
        (row.game, row.seed, row.episode): row
        for source in sources
        for row in source.random_play
        if row.game in games
    }
    return sorted(found.values())
