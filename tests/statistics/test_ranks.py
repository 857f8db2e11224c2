"""The distribution of ranks: against drawing as rliable does, and on answers that are known."""

import numpy as np
import pytest

from irisflow.statistics.ranks import rank_chances, rank_summary


def drawn(scores: dict[str, np.ndarray], *, num_draws: int) -> dict[str, np.ndarray]:
    """Return how often each variant took each rank among runs that were drawn, ties broken at random."""
    rng = np.random.default_rng(0)
    num_games = next(iter(scores.values())).shape[1]
    counts = np.zeros((len(scores), len(scores)))
    for game in range(num_games):
        runs = np.stack([rng.choice(found[:, game], num_draws) for found in scores.values()], axis=1)
        order = np.lexsort((rng.random(runs.shape), -runs), axis=1)
        for rank in range(len(scores)):
            counts[:, rank] += np.bincount(order[:, rank], minlength=len(scores))
    return dict(zip(scores, counts / num_draws / num_games, strict=True))


def test_counting_agrees_with_drawing_runs_and_sorting_them() -> None:
    rng = np.random.default_rng(1)
    scores = {
        name: rng.integers(0, 6, (runs, 3)).astype(float)
        for name, runs in zip("abcd", (5, 3, 4, 1), strict=True)
    }
    found, expected = rank_summary(scores), drawn(scores, num_draws=40_000)
    for name, record in found.items():
        assert record["shares"] == pytest.approx(expected[name], abs=0.01)
        assert sum(record["shares"]) == pytest.approx(1)


def test_known_answers() -> None:
    low, high = np.zeros((3, 2)), np.ones((4, 2))
    found = rank_summary({"low": low, "high": high, "same": high.copy()})
    assert found["low"] == {"shares": pytest.approx([0, 0, 1]), "mean": pytest.approx(3)}
    assert found["high"]["shares"] == found["same"]["shares"] == pytest.approx([0.5, 0.5, 0])
    assert rank_chances({"x": high, "y": low}, "x").tolist() == [[1, 0], [1, 0]]


def test_nothing_depends_on_the_order_of_the_variants() -> None:
    rng = np.random.default_rng(2)
    scores = {name: rng.normal(size=(3, 4)) for name in "abc"}
    turned = rank_summary(dict(reversed(scores.items())))
    for name, record in rank_summary(scores).items():
        assert turned[name]["shares"] == pytest.approx(record["shares"], abs=1e-12)


def test_one_variant_or_no_game_has_no_ranks() -> None:
    assert rank_summary({"a": np.ones((2, 2))}) == {}
    assert rank_summary({"a": np.ones((2, 0)), "b": np.ones((2, 0))}) == {}
