"""What other agents published for Atari 100k, aggregated over a study's games, with how far it compares.

Of some agents only the mean over runs of each game is known. Their IQM and optimality gap would be those of an agent whose
runs are all alike, which is another number (SPR: 0.415 instead of 0.337), so they have mean and median only.
"""

from dataclasses import asdict, dataclass
from typing import Any

from irisflow.games import ATARI_100K
from irisflow.statistics import aggregate
from irisflow.statistics.reference import published, published_normalised, sources

MEAN_ONLY = ("median", "mean")
BY_DEFINITION = ("random", "human")


@dataclass(frozen=True)
class Baseline:
    """An agent in `published.csv`: its name there and in print, the year of its paper, and what is special about it.

    `is_one_run` tells that a single number a game is a run and no mean.
    """

    key: str
    label: str
    year: int | None = None
    remark: str = ""
    is_one_run: bool = False


BASELINES = (
    Baseline("random", "Random play", remark="0 by definition"),
    Baseline("human", "Human play", remark="1 by definition"),
    Baseline("SimPLe", "SimPLe", 2020),
    Baseline("CURL", "CURL", 2020),
    Baseline("DrQ(eps)", "DrQ(ε)", 2021),
    Baseline("SPR", "SPR", 2021),
    Baseline("EfficientZero", "EfficientZero", 2021, "one run, tree search", is_one_run=True),
    Baseline("IRIS", "IRIS", 2023),
    Baseline("TWM", "TWM", 2023),
    Baseline("DreamerV3-2023", "DreamerV3", 2023),
    Baseline("SR-SPR", "SR-SPR", 2023),
    Baseline("BBF", "BBF", 2023),
    Baseline("STORM-paper", "STORM", 2023),
    Baseline("DIAMOND", "DIAMOND", 2024),
    Baseline("REM", "REM", 2024),
    Baseline("Delta-IRIS", "Δ-IRIS", 2024),
    Baseline("Simulus", "Simulus", 2025),
)


def published_baselines(games: tuple[str, ...], *, reps: int) -> list[dict[str, Any]]:
    """Return a record an agent: aggregates over `games` with intervals, number of runs, badge, and the file they are from.

    `metrics` holds only what can be computed; `num_superhuman` counts games whose mean is human or better; `raw` has the
    mean score of each game. Empty where a game is not of Atari 100k.
    """
    if not games or not set(games) <= set(ATARI_100K):
        return []
    return [_record(baseline, games, reps) for baseline in BASELINES]


def _record(baseline: Baseline, games: tuple[str, ...], reps: int) -> dict[str, Any]:
    scores = published_normalised(baseline.key, games)
    is_mean_only = len(scores) == 1 and not baseline.is_one_run and baseline.key not in BY_DEFINITION
    known = MEAN_ONLY if is_mean_only else aggregate.METRICS
    found = aggregate.aggregates(scores, name=f"published {baseline.label}", reps=reps)
    return {
        **asdict(baseline),
        "num_runs": None if is_mean_only or baseline.key in BY_DEFINITION else len(scores),
        "badge": _badge(baseline, len(scores)),
        "metrics": {metric: {**asdict(found[metric]), "num_values": scores.size} for metric in known},
        "num_superhuman": num_superhuman(scores),
        "raw": {
            game: float(found.mean()) for game, found in published(baseline.key).items() if game in games
        },
        "sources": sources(baseline.key),
    }


def num_superhuman(scores: aggregate.Scores) -> int:
    """Return on how many games the mean over runs is that of human play or better."""
    return int((scores.mean(axis=0) >= 1).sum())


def _badge(baseline: Baseline, num_runs: int) -> str:
    """Return how far the numbers can be compared, in a few words."""
    runs = f"{num_runs} runs" if num_runs > 1 else "means only"
    if baseline.key in BY_DEFINITION:
        return baseline.remark
    return baseline.remark or runs
