"""What is known of a comparison's runs beside their scores: from all its sources, and what each page must say of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from irisflow import params
from irisflow.statistics.configuration import Change, changed_keys
from irisflow.statistics.records import Records, joined
from irisflow.statistics.scores import Run
from irisflow.statistics.sources import Source

# Keys that name a run, and those that decide none of its numbers.
OF_A_RUN = (
    "common.seed", "common.resume", "env.train.id", "env.test.id", "env.keymap", "logging.", *params.NOT_IN_DIGEST,
)  # fmt: skip
MOST_TOLD = 4
Remark = dict[str, str]


def gathered(
    sources: Sequence[Source], runs: Collection[Run], *, baseline: str
) -> tuple[Records, list[Remark]]:
    """Return what the sources' jobs wrote down of these runs, of each run once, and what the first page says of it.

    World models of a game are measured alike or not shown: those count that were measured on the episodes on which the
    baseline's were, or, where it was not, those of the first source.
    """
    games = {run.game for run in runs}
    own = [source.records.of(runs, games) for source in sources]
    alike, left_out = _measured_alike(own, baseline)
    records = joined(alike)
    measured = records.each("measured_on")
    remarks = [
        *_lost(sources),
        *_of_other_episodes(sources, [runs - measured.keys() for runs in left_out]),
        *_only_scores(records, runs),
        *_not_measured(records, {run.variant for other in left_out for run in other}),
    ]
    return records, remarks


def configuration_of(sources: Sequence[Source], name: str) -> Mapping[str, str] | None:
    """Return a variant's configuration by dotted keys, from the first source that knows it."""
    found = (source.configurations[name] for source in sources if name in source.configurations)
    return next(found, None)


def changes_of(sources: Sequence[Source], name: str, baseline: str) -> tuple[Change, ...]:
    """Return in which keys a variant's configuration differs from the baseline's; none where one of them is not known."""
    if (told := _told_changes(sources, name, baseline, "changes")) is not None:
        return told
    base, own = configuration_of(sources, baseline), configuration_of(sources, name)
    return () if base is None or own is None else _changed(base, own)


def written_changes_of(sources: Sequence[Source], name: str, baseline: str) -> tuple[Change, ...]:
    """Return what a variant writes otherwise than the baseline, where a study with this baseline says it."""
    return _told_changes(sources, name, baseline, "written_changes") or ()


def _told_changes(sources: Sequence[Source], name: str, baseline: str, key: str) -> tuple[Change, ...] | None:
    """Return what the first source that knows the variant says of it, if its study has this baseline."""
    for source in sources:
        described = {found["name"]: found for found in source.study.get("variants", ())}
        if name in described and source.study["baseline"] == baseline:
            return tuple((each, base, own) for each, base, own in described[name].get(key, ()))
        if name in source.configurations:
            break
    return None


def made_otherwise(sources: Sequence[Source]) -> dict[str, list[int]]:
    """Return the variants that sources made with other configurations: for each source the place of the first one like it.

    A key that only one of two has came in between. A source that does not tell its configuration is like no other.
    """
    found = {}
    for name in dict.fromkeys(name for source in sources for name in source.configurations):
        own = [source.configurations.get(name) for source in sources]
        like = [
            next((first for first in range(place) if _are_alike(own[first], own[place])), place)
            for place in range(len(own))
        ]
        if len({first for first, known in zip(like, own, strict=True) if known is not None}) > 1:
            found[name] = like
    return found


def _are_alike(first: Mapping[str, str] | None, second: Mapping[str, str] | None) -> bool:
    if first is None or second is None:
        return False
    return not any(None not in change for change in _changed(first, second))


def _changed(base: Mapping[str, str], own: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(change for change in changed_keys(base, own) if not change[0].startswith(OF_A_RUN))


def _measured_alike(parts: Sequence[Records], baseline: str) -> tuple[list[Records], list[set[Run]]]:
    """Return the records with the measurements that go together, and of each the runs whose measurements do not."""
    first = sorted(
        parts, key=lambda part: not any(run.variant == baseline for run in part.each("measured_on"))
    )
    expected: dict[str, set[str]] = {}
    for part in first:
        mine: dict[str, set[str]] = {}
        for run, what in part.each("measured_on").items():
            mine.setdefault(run.game, set()).add(what)
        expected = {**mine, **expected}
    wrong = [
        {run for run, what in part.each("measured_on").items() if what not in expected[run.game]}
        for part in parts
    ]
    kept = [
        part.measured_of(part.each("measured_on").keys() - others)
        for part, others in zip(parts, wrong, strict=True)
    ]
    return kept, wrong


def _remark(level: str, text: str) -> Remark:
    return {"level": level, "text": text}


def _lost(sources: Sequence[Source]) -> Iterator[Remark]:
    for source in sources:
        if source.lost:
            yield _remark("warn", f"{source.label}: {source.lost}.")


def _of_other_episodes(sources: Sequence[Source], left_out: Sequence[Collection[Run]]) -> Iterator[Remark]:
    for source, runs in zip(sources, left_out, strict=True):
        if runs:
            variants, games = (_told(getattr(run, key) for run in runs) for key in ("variant", "game"))
            yield _remark(
                "warn",
                f"{source.label}: its world models ({variants}; {games}) were measured on other held-out episodes, or from"
                " other moments of them, than those that are shown: their measurements are left out.",
            )


def _only_scores(records: Records, runs: Collection[Run]) -> Iterator[Remark]:
    """Tell which variants lack costs and measurements that others have."""
    trained = {job.run for job in records.jobs if job.cost["stage"] == "train_agent"}
    unknown = [run for run in runs if run not in trained]
    if not trained or not unknown:
        return
    names = dict.fromkeys(run.variant for run in unknown)
    partly = [name for name in names if any(run.variant == name for run in trained if run)]
    whole = [name for name in names if name not in partly]
    if whole:
        yield _remark(
            "note",
            f"Only the scores of {_told(whole)} are known here: costs, losses, pictures and world models are those of"
            " the others.",
        )
    for name in partly:
        missing = sum(run.variant == name for run in unknown)
        total = sum(run.variant == name for run in runs)
        yield _remark(
            "warn",
            f"Costs and losses of {missing} of the {total} runs of {name} are not known: its wall-clock is that of the"
            " rest.",
        )


def _not_measured(records: Records, left_out: Collection[str]) -> Iterator[Remark]:
    """Tell which variants' world models were measured nowhere, and over which games those of the others can be averaged."""
    games: dict[str, set[str]] = {}
    for run in records.each("measured_on"):
        games.setdefault(run.variant, set()).add(run.game)
    if not games:
        return
    trained = {job.run.variant for job in records.jobs if job.run}
    if unmeasured := trained - games.keys() - set(left_out):
        yield _remark("note", f"The world models of {_told(unmeasured)} were not measured.")
    shared = set.intersection(*games.values())
    if not shared:
        text = f"No game has the world models of all of {_told(games)}: means are those of one of them."
        yield _remark("warn", text)
    elif shared != set.union(*games.values()):
        yield _remark(
            "note", f"Means of world models are over the games in which all were measured ({_told(shared)})."
        )


def _told(names: Iterable[str]) -> str:
    """Return the names, sorted, the first few of many."""
    found = sorted(set(names))
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return ", ".join(found[:MOST_TOLD]) + more
