"""Reference scores of the games: random play, human play, and what other agents published for Atari 100k."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_SHA256 = "a76f9f9a49f62bd7dd145ecdc892ed3c4515eae52616ff45802135fc712b3beb"
SCORE_RANGE = {"Pong": (-21.0, 21.0), "Boxing": (-100.0, 100.0), "Freeway": (0.0, 34.0), "Catch": (-1.0, 1.0)}


@dataclass(frozen=True)
class Reference:
    """The two scores that normalise a game: 0 is random play, 1 is `best` play."""

    random: float
    best: float
    best_label: str
    source: str

    def normalise(self, score: float) -> float:
        """Return (score - random) / (best - random): the human-normalised score where `best` is human."""
        return (score - self.random) / (self.best - self.random)

    def normalise_runs(self, scores: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "runs"]:
        """Return `normalise` of every run."""
        return (scores - self.random) / (self.best - self.random)


TOY_REFERENCES = {
    "Catch": Reference(
        random=-0.6,
        best=1.0,
        best_label="perfect play, not human",
        source="exact: the ball's column is uniform and independent of the paddle's: 1 in 5 is caught",
    )
}


def reference(game: str) -> Reference | None:
    """Return the reference scores of a game, or None for a game that has none.

    Atari: the random and human scores that IRIS, REM and rliable use, from `published.csv`.
    """
    if game in TOY_REFERENCES:
        return TOY_REFERENCES[game]
    random, human = published("random").get(game), published("human").get(game)
    if random is None or human is None:
        return None
    return Reference(float(random[0]), float(human[0]), "human", "eloialonso/iris:results/data")


def published(algorithm: str) -> dict[str, Float[np.ndarray, "runs"]]:
    """Return an agent's published raw scores: game -> one per run, or the mean where only that is known."""
    return {game: np.array(scores) for game, scores in _table().get(algorithm, {}).items()}


def published_normalised(algorithm: str, games: tuple[str, ...]) -> Float[np.ndarray, "runs games"]:
    """Return published scores normalised by random and human play. KeyError for a game without them."""
    raw = published(algorithm)
    columns = []
    for game in games:
        scale = reference(game)
        assert scale is not None, f"{game} has no reference scores"
        columns.append(scale.normalise_runs(raw[game]))
    return np.stack(columns, axis=1)


def sources(algorithm: str) -> list[str]:
    """Return where an agent's published scores are from."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return sorted({row["source"] for row in csv.DictReader(file) if row["algorithm"] == algorithm})


def possible_range(game: str) -> tuple[float, float] | None:
    """Return the least and the greatest score that a game's rules allow, where they bound it."""
    return SCORE_RANGE.get(game)


@cache
def _table() -> dict[str, dict[str, list[float]]]:
    """Return algorithm -> game -> scores in the order of the runs."""
    table: dict[str, dict[str, list[float]]] = {}
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: (row["algorithm"], row["game"], row["run"])):
            table.setdefault(row["algorithm"], {}).setdefault(row["game"], []).append(float(row["score"]))
    return table
