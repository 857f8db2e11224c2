"""Seeds for 80 % power: the test's threshold against the report's exact test, and answers that must come out."""

import math
from itertools import combinations

import numpy as np
import pytest

from irisflow.statistics.exact import stratified_test
from irisflow.statistics.power import critical, pooled_spread, power, seeds_for_power


@pytest.mark.parametrize(("num_seeds", "num_games"), [(3, 1), (4, 1), (5, 1), (3, 2)])
def test_the_threshold_is_the_one_of_the_permutation_test(num_seeds: int, num_games: int) -> None:
    runs = np.arange(2 * num_seeds)
    nets = {}
    for chosen in combinations(runs, num_seeds):
        x, y = np.array(chosen, float), np.setdiff1d(runs, chosen).astype(float)
        net = int(np.sign(x[:, None] - y).sum()) * num_games
        nets[abs(net)] = stratified_test([(x, y)] * num_games).p
    bound = critical(num_seeds, num_games, 0.2)
    assert all((p <= 0.2 + 1e-9) == (net >= bound) for net, p in nets.items())


def test_three_seeds_of_one_game_can_never_reach_the_level() -> None:
    assert critical(3, 1, 0.05) == math.inf
    assert power(np.array([50.0]), np.ones(1), 3, 0.05, name="x") == 0
    assert power(np.array([50.0]), np.ones(1), 4, 0.05, name="x") == 1


def test_counted_and_normal_thresholds_meet() -> None:
    counted = critical(12, 5, 0.05) / math.sqrt(5)
    assert counted == pytest.approx(critical(12, 6, 0.05) / math.sqrt(6), rel=0.03)


def test_without_an_effect_the_power_is_at_most_about_the_level() -> None:
    assert power(np.zeros(5), np.ones(5), 6, 0.05, name="x") < 0.09


def test_a_larger_effect_needs_fewer_seeds_and_a_copy_more_than_were_tried() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 3))
    scores = {"iris": noise, "near": noise[::-1] + 0.9, "far": noise[::-1] + 4.0, "same": noise.copy()}
    found = seeds_for_power(scores, "iris")
    assert found["far"]["seeds"] < found["near"]["seeds"]
    assert found["same"]["seeds"] is None and found["far"]["power"] > 0.9
    assert found == seeds_for_power(dict(reversed(scores.items())), "iris")


def test_a_game_without_spread_is_certain_or_says_nothing() -> None:
    still = {"iris": np.zeros((3, 2)), "fsq": np.ones((3, 2)) * (0, 1)}
    assert pooled_spread(still).tolist() == [0, 0]
    assert seeds_for_power(still, "iris")["fsq"] == {"seeds": 6, "power": 0}, "the other game dilutes it"
    certain = {"iris": np.zeros((4, 1)), "fsq": np.ones((4, 1))}
    assert seeds_for_power(certain, "iris")["fsq"] == {"seeds": 4, "power": 1}
    assert seeds_for_power({"iris": np.zeros((1, 2)), "fsq": np.ones((1, 2))}, "iris") == {}
