"""The rank correlation of prediction and score: known answers, and games that must not make one up."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from irisflow.statistics.association import association, prediction_and_score
from irisflow.statistics.scores import Run
from irisflow.statistics.world_model import Measured, table


def test_one_game_gives_spearmans_correlation_and_games_apart_give_none() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(20, 2))
    pairs[:, 1] += pairs[:, 0]
    found = association({"Pong": pairs}, reps=200)
    assert found and found["value"] == pytest.approx(spearmanr(*pairs.T).statistic)
    assert found["low"] < found["value"] < found["high"] and found["num_runs"] == 20
    apart = {game: rng.normal(size=(40, 2)) + 100 * index for index, game in enumerate(("Pong", "Alien"))}
    assert spearmanr(*np.concatenate(list(apart.values())).T).statistic > 0.6
    found = association(apart, reps=200)
    assert found and found["low"] < 0 < found["high"], "that one game has higher numbers is no association"


def test_it_rises_and_falls_to_one_and_ties_tell_nothing() -> None:
    line = np.arange(8.0)
    for sign in (1, -1):
        found = association({"Pong": np.stack([line, sign * line], axis=1)}, reps=50)
        assert found and found["value"] == pytest.approx(sign)
    assert association({"Pong": np.ones((8, 2))}, reps=50) is None


def rows(num_runs: int) -> tuple[pd.DataFrame, dict[Run, float]]:
    """Return measurements of runs: 20 + seed dB finished, 5 dB before."""
    found = [
        Measured("iris", "Pong", seed, step, "open_psnr", "greedy", context, horizon, None, value, 4)
        for seed in range(num_runs)
        for step, level in ((0, 5.0), (100, 20.0 + seed))
        for context in (1, 5)
        for horizon, value in ((1, level + 1), (2, level - 1 + 10 * (context == 5)))
    ]
    return table(found), {Run("iris", "Pong", seed): -21.0 + seed for seed in range(num_runs)}


def test_runs_have_their_last_weights_mean_over_the_horizon_and_few_of_them_no_correlation() -> None:
    measured, means = rows(9)
    found = prediction_and_score(measured, means, reps=50)
    assert [run["open_psnr"] for run in found["runs"]] == [20.0 + seed for seed in range(9)]
    assert found["association"]["value"] == pytest.approx(1)
    assert prediction_and_score(*rows(7), reps=50)["association"] is None
    assert prediction_and_score(table(()), means, reps=50) == {}
