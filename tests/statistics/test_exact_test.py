"""The exact permutation test for any run counts: all deals are counted, the level is kept."""

from itertools import combinations, product

import numpy as np
import pytest

from irisflow.statistics import exact


def brute_force(games: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the p value by going through all ways to deal out the labels."""
    observed = abs(exact.stratified_improvement(games) - 0.5)
    choices = [list(combinations(range(len(x) + len(y)), len(x))) for x, y in games]
    outcomes = []
    for chosen in product(*choices):
        dealt = []
        for (x, y), left in zip(games, chosen, strict=True):
            pooled = np.concatenate([x, y])
            dealt.append((pooled[list(left)], np.delete(pooled, left)))
        outcomes.append(abs(exact.stratified_improvement(dealt) - 0.5) >= observed - 1e-12)
    return float(np.mean(outcomes))


@pytest.mark.parametrize(
    "counts", [[(1, 3)], [(3, 3), (3, 3)], [(2, 3), (3, 2)], [(1, 4), (2, 2), (3, 1)]], ids=str
)
@pytest.mark.parametrize("seed", range(3))
def test_p_is_that_of_all_deals_with_ties_and_other_run_counts_in_each_game(
    counts: list[tuple[int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    games = [(rng.integers(0, 4, x).astype(float), rng.integers(0, 4, y).astype(float)) for x, y in counts]
    found = exact.stratified_test(games)
    assert found.is_exact and found.p == pytest.approx(brute_force(games))


def test_identical_variants_have_p_one() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert exact.stratified_test([(runs, runs.copy()) for runs in x]).p == pytest.approx(1.0, abs=1e-12)


def test_complete_separation_gives_the_smallest_p() -> None:
    found = exact.stratified_test([(np.arange(3.0) + 99, np.arange(20.0))])
    assert found.p == pytest.approx(2 / 1771) and found.smallest_p == pytest.approx(2 / 1771)
    assert exact.smallest_p(3) == pytest.approx(2 / 3)
    equal = exact.stratified_test([(np.arange(3.0) + 10, np.arange(3.0))])
    assert equal.num_splits == 20 and equal.p == pytest.approx(equal.smallest_p) == pytest.approx(0.1)


def test_drawn_sums_give_nearly_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    games = [(rng.normal(0.4, 1, 3 + game), rng.normal(0, 1, 6)) for game in range(3)]
    counted = exact.stratified_test(games)
    monkeypatch.setattr(exact, "MOST_SUMS", 1)
    drawn = exact.stratified_test(games)
    assert counted.is_exact and not drawn.is_exact
    assert drawn.p == pytest.approx(counted.p, abs=0.02)


@pytest.mark.parametrize(
    ("num_games", "num_x", "num_y"), [(2, 3, 20), (5, 2, 2)], ids=["many-random-runs", "equal-runs"]
)
def test_the_test_keeps_its_level_and_finds_a_planted_difference(
    num_games: int, num_x: int, num_y: int
) -> None:
    false_wins, wins = 0, 0
    for draw in range(200):
        rng = np.random.default_rng(draw)
        games = [(rng.normal(0, 1, num_x), rng.normal(0, 1, num_y)) for _ in range(num_games)]
        false_wins += exact.stratified_test(games).p < 0.05
        wins += exact.stratified_test([(x + 2, y) for x, y in games]).p < 0.05
    assert false_wins / 200 <= 0.085
    assert wins / 200 >= 0.8


def test_the_smallest_p_and_the_seeds_that_it_takes() -> None:
    assert exact.smallest_p(20) == pytest.approx(0.1)
    assert exact.smallest_p(1) == exact.smallest_p(2) == 1.0
    assert exact.smallest_p(252**26) < 1e-60
    assert exact.seeds_needed(1, 1) == 4
    assert exact.seeds_needed(1, 2) == 5
    assert exact.seeds_needed(26, 2) == 1


@pytest.mark.parametrize("num_games", [1, 3])
def test_the_needed_seeds_reach_the_level_and_one_fewer_does_not(num_games: int) -> None:
    def separated(num_seeds: int) -> float:
        runs = np.arange(float(num_seeds))
        return exact.stratified_test([(runs + 99, runs)] * num_games).p

    needed = exact.seeds_needed(num_games, 2)
    assert 2 * separated(needed) < 0.05 <= 2 * separated(needed - 1)
