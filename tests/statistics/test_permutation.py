"""The p value of a difference of IQMs, and Holm's adjustment."""

from itertools import combinations, product

import numpy as np
import pytest

from irisflow.statistics import permutation
from irisflow.statistics.aggregate import iqm

NAMES = ("x", "y")


def test_identical_variants_have_p_one() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert permutation.iqm_p(x, x.copy(), names=NAMES) == 1.0


def test_p_is_the_share_of_all_deals_whose_iqms_differ_as_much() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.4, 1, (2, 3)), rng.normal(0, 1, (3, 3))
    pooled, choices = np.concatenate([x, y]), list(combinations(range(5), 2))
    distances = []
    for chosen in product(choices, repeat=3):
        left = np.stack([pooled[list(runs), game] for game, runs in enumerate(chosen)], axis=1)
        right = np.stack([np.delete(pooled[:, game], runs) for game, runs in enumerate(chosen)], axis=1)
        distances.append(abs(iqm(left) - iqm(right)))
    expected = np.mean(np.array(distances) >= abs(iqm(x) - iqm(y)) - 1e-12)
    assert 0.01 < expected < 0.99
    assert permutation.iqm_p(x, y, names=NAMES) == pytest.approx(expected)


def test_drawn_deals_give_nearly_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.5, 1, (3, 3)), rng.normal(0, 1, (3, 3))
    exact = permutation.iqm_p(x, y, names=NAMES)
    monkeypatch.setattr(permutation, "MAX_EXACT_SPLITS", 1)
    drawn = permutation.iqm_p(x, y, names=NAMES)
    assert drawn != exact and drawn == pytest.approx(exact, abs=0.02)
    assert permutation.iqm_p(y, x, names=NAMES[::-1]) == pytest.approx(drawn, abs=0.02)


def test_holm_adjusts_as_in_the_textbook() -> None:
    adjusted = permutation.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert permutation.holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
