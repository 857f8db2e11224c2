"""Looks up the world models' measurements in a summary, for one game or averaged over several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from irisflow.reporting.style import Summary, count, plural, variant_names
from irisflow.statistics.quality_intervals import shared_games

FEW_GAMES = 3
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """What a row or panel shows: one game, or the mean over all of them."""

    label: str
    games: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """95 % intervals of a number at some horizons, None where there is none, and how many stretches say anything there."""

    low: list[float | None]
    high: list[float | None]
    num_stretches: list[int]
    num_seeds: int
    num_episodes: int

    @property
    def cells(self) -> list[dict[str, float | int | None]]:
        """What a CSV file says at each horizon."""
        return [
            {"low": low, "high": high, "num_seeds": self.num_seeds, "num_stretches": num_stretches}
            for low, high, num_stretches in zip(self.low, self.high, self.num_stretches, strict=True)
        ]


NO_INTERVAL: dict[str, float | int | None] = dict.fromkeys(("low", "high", "num_seeds", "num_stretches"))


@dataclass(frozen=True)
class Quality:
    """The measurements of a study, by key. A missing one is None."""

    variants: tuple[str, ...]
    places: tuple[Place, ...]
    scalars: Mapping[tuple[Any, ...], Record]
    curves: Mapping[tuple[Any, ...], Record]
    confusion: tuple[Record, ...]
    intervals: Mapping[tuple[Any, ...], Record]
    shared: tuple[str, ...]

    @cached_property
    def everything(self) -> Place:
        """The mean over all games in which every variant was measured, or the only one."""
        games = self.shared
        return Place(games[0] if len(games) == 1 else f"mean over {plural(len(games), 'game')}", games)

    @cached_property
    def context(self) -> int:
        """The shortest context: it leaves the most frames to predict. 0 where nothing was predicted."""
        return int(min((key[-1] for key in self.curves), default=0))

    def steps(self, variant: str, place: Place) -> list[int]:
        """Return the environment steps after which the variant was measured in every game, ascending."""
        return sorted(set.intersection(*(self._steps.get((variant, game), set()) for game in place.games)))

    @cached_property
    def _steps(self) -> dict[tuple[str, str], set[int]]:
        found: dict[tuple[str, str], set[int]] = {}
        for variant, game, step, *_ in self.scalars:
            found.setdefault((variant, game), set()).add(step)
        return found

    def measured(self, place: Place) -> list[str]:
        """Return the variants that were measured there, in every game."""
        return [name for name in self.variants if self.steps(name, place)]

    def scalar(
        self, variant: str, place: Place, metric: str, step: int, of_class: int | None = None
    ) -> Record | None:
        """Return a number's `mean` and its `n` over all seeds, and of a single game the `least` and `greatest` seed.

        Games in which it was not measured do not count.
        """
        found = [self.scalars.get((variant, game, step, metric, of_class)) for game in place.games]
        records = [record for record in found if record]
        if len(records) <= 1:
            return records[0] if records else None
        mean = float(np.mean([record["mean"] for record in records]))
        num_seeds, n = records[0]["num_seeds"], sum(record["n"] for record in records)
        return {"mean": mean, "least": None, "greatest": None, "num_seeds": num_seeds, "n": n}

    def by_class(self, variant: str, place: Place, metric: str, step: int) -> dict[int, Record]:
        """Return a number's record for each class (or bin, recall, number of codes) that it has there, ascending."""
        found = {
            of_class: self.scalar(variant, place, metric, step, of_class)
            for of_class in self._classes.get(metric, ())
        }
        return {of_class: record for of_class, record in found.items() if record}

    @cached_property
    def _classes(self) -> dict[str, list[int]]:
        """What classes each metric has anywhere, ascending."""
        pairs = {(metric, of_class) for *_, metric, of_class in self.scalars if of_class is not None}
        found: dict[str, list[int]] = {}
        for metric, of_class in sorted(pairs):
            found.setdefault(metric, []).append(of_class)
        return found

    @cached_property
    def metrics(self) -> set[str]:
        """What was measured anywhere, but for what goes over the horizon."""
        return {metric for _, _, _, metric, _ in self.scalars}

    def interval(
        self,
        variant: str,
        place: Place,
        metric: str,
        step: int,
        mode: str = "",
        horizons: Sequence[int] = (1,),
    ) -> Interval | None:
        """Return the intervals of a number; None of earlier weights, and where what they are made of is not known."""
        if mode:
            games = [g for g in place.games if (variant, g, step, metric, mode, self.context) in self.curves]
        else:
            games = [g for g in place.games if (variant, g, step, metric, None) in self.scalars]
        found = self.intervals.get((variant, tuple(games), step, metric, mode))
        if found is None or (mode and found["context"] != self.context) or max(horizons) > len(found["low"]):
            return None
        low, high, num_stretches = (
            [found[key][h - 1] for h in horizons] for key in ("low", "high", "num_stretches")
        )
        if all(end is None for end in low):
            return None
        return Interval(low, high, num_stretches, found["num_seeds"], found["num_episodes"])

    def curve(self, variant: str, place: Place, metric: str, mode: str, step: int) -> Record | None:
        """Return a metric over the horizon: `horizon` and `mean`, and of a single game `least` and `greatest`."""
        keys = [(variant, game, step, metric, mode, self.context) for game in place.games]
        records = [record for key in keys if (record := self.curves.get(key))]
        if len(records) <= 1:
            return records[0] if records else None
        shared = sorted(set.intersection(*(set(record["horizon"]) for record in records)))
        values = [dict(zip(record["horizon"], record["mean"], strict=True)) for record in records]
        means = [float(np.mean([of[horizon] for of in values])) for horizon in shared]
        return {"horizon": shared, "mean": means, "least": None, "greatest": None}


def quality_of(summary: Summary) -> Quality:
    """Return the measurements of a summary that has some."""
    found = summary["world_model"]
    measured = {record["game"] for record in found["scalars"]}
    games = tuple(game for game in summary["study"]["games"] if game in measured)
    cells = {(record["variant"], record["game"]) for record in found["scalars"]}
    variants = tuple(
        name for name in variant_names(summary) if any(name == measured for measured, _ in cells)
    )
    # In a comparison of studies a variant may be measured in some games only.
    shared = shared_games(games, variants, cells)
    together = Place(shared[0] if len(shared) == 1 else f"Mean over {plural(len(shared), 'game')}", shared)
    return Quality(
        variants=variants,
        places=tuple(Place(game, (game,)) for game in games) if len(games) <= FEW_GAMES else (together,),
        scalars=_by(found["scalars"], ("variant", "game", "env_step", "metric", "class")),
        curves=_by(found["curves"], ("variant", "game", "env_step", "metric", "mode", "context")),
        confusion=tuple(found["confusion"]),
        intervals={
            (
                record["variant"],
                tuple(record["games"]),
                record["env_step"],
                record["metric"],
                record["mode"],
            ): record
            for record in found["intervals"]
        },
        shared=shared,
    )


def after(step: int) -> str:
    """Return how far training was: `after 2,000 steps`, or `untrained`."""
    return f"after {count(step)} steps" if step else "untrained"


def interval_note(found: Sequence[Interval], place: Place) -> str:
    """Return what intervals are over, for a caption: `95 % interval over 3 seeds and ...`."""
    if not found:
        return "no interval (fewer than two stretches of the recording, or measured by an older version)"
    seeds, stretches, episodes = (
        _range(numbers)
        for numbers in zip(*((i.num_seeds, max(i.num_stretches), i.num_episodes) for i in found), strict=True)
    )
    recording = "the recording" if len(place.games) == 1 else "each game's recording"
    over = (
        f"{stretches} stretches of {recording} ({'1 episode' if episodes == '1' else f'{episodes} episodes'})"
    )
    if all(each.num_seeds == 1 for each in found):
        runs = "one run" if len(place.games) == 1 else "one run a game"
        return f"95 % interval over {over} of {runs}: it says nothing about other seeds"
    games = "" if len(place.games) == 1 else ", games fixed"
    return f"95 % interval over {seeds} seeds and {over}{games}"


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return count(least) if least == most else f"{count(least)} to {count(most)}"


def _by(records: Sequence[Record], keys: Sequence[str]) -> dict[tuple[Any, ...], Record]:
    return {tuple(record[key] for key in keys): record for record in records}
