"""The permutation test: known p values, its level, its power, and Holm's adjustment."""

from itertools import combinations

import numpy as np
import pytest

from irisflow.statistics import permutation
from irisflow.statistics.aggregate import iqm, probability_of_improvement

NAMES = ("x", "y")


def test_identical_variants_have_p_one() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    for test in (permutation.improvement_test, permutation.iqm_test):
        assert test(x, x.copy(), names=NAMES).p == 1.0


def test_complete_separation_gives_the_smallest_p() -> None:
    x = np.arange(3.0)[:, None]
    found = permutation.improvement_test(x + 10, x, names=NAMES)
    assert found.is_exact and found.num_splits == 20
    assert found.p == found.smallest_p == pytest.approx(0.1)


@pytest.mark.parametrize("statistic", ["improvement", "iqm"])
def test_exact_p_equals_brute_force(statistic: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.4, 1, (2, 3)), rng.normal(0, 1, (3, 3))

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        if statistic == "improvement":
            return abs(probability_of_improvement(x, y) - 0.5)
        return abs(iqm(x) - iqm(y))

    pooled, choices = np.concatenate([x, y]), list(combinations(range(5), 2))
    extreme = 0
    for first in choices:
        for second in choices:
            for third in choices:
                left, right = np.empty((2, 3)), np.empty((3, 3))
                for game, chosen in enumerate((first, second, third)):
                    rest = [run for run in range(5) if run not in chosen]
                    left[:, game], right[:, game] = pooled[list(chosen), game], pooled[rest, game]
                extreme += distance(left, right) >= distance(x, y) - 1e-12
    test = permutation.improvement_test if statistic == "improvement" else permutation.iqm_test
    assert test(x, y, names=NAMES).p == pytest.approx(extreme / len(choices) ** 3)


def test_sampled_p_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.5, 1, (3, 3)), rng.normal(0, 1, (3, 3))
    exact = permutation.improvement_test(x, y, names=NAMES)
    monkeypatch.setattr(permutation, "MAX_EXACT_SPLITS", 1)
    sampled = permutation.improvement_test(x, y, names=NAMES)
    assert exact.is_exact and not sampled.is_exact
    assert sampled.p == pytest.approx(exact.p, abs=0.02)


def test_the_test_keeps_its_level_and_finds_a_planted_difference() -> None:
    false_wins, wins = 0, 0
    for draw in range(120):
        rng = np.random.default_rng(draw)
        x, y = rng.normal(0, 1, (2, 5)), rng.normal(0, 1, (2, 5))
        false_wins += permutation.improvement_test(x, y, names=NAMES).p < 0.05
        wins += permutation.improvement_test(x + 2, y, names=NAMES).p < 0.05
    assert false_wins / 120 <= 0.1
    assert wins / 120 >= 0.8


def test_holm_adjusts_as_in_the_textbook() -> None:
    adjusted = permutation.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert permutation.holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_the_smallest_p_and_the_seeds_that_it_takes() -> None:
    assert permutation.smallest_p(3, 3, 1) == pytest.approx(0.1)
    assert permutation.smallest_p(1, 1, 1) == 1.0
    assert permutation.smallest_p(5, 5, 26) == pytest.approx(1 / 10_001)
    assert permutation.seeds_needed(1, 1) == 4
    assert permutation.seeds_needed(26, 2) == 1
