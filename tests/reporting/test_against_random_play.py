"""Against random play: what the summary says of agents that learned, of a copy of random play, and of one run."""

from dataclasses import replace

import pytest
import synthetic

from irisflow.statistics.random_play import against_random_play
from irisflow.statistics.scores import Run, run_means


def test_a_learner_beats_random_play_a_copy_of_it_does_not_and_one_run_cannot() -> None:
    study = synthetic.study(games=("Pong", "Catch"), num_variants=2, num_seeds=3)
    rows = synthetic.random_play_of(study)
    random = run_means(rows)
    means = {
        **{Run("iris", game, seed): 0.5 for game in study.games for seed in study.seeds},
        **{Run("fsq", game, seed): random[Run("random", game, seed)] for game in study.games for seed in study.seeds},
    }  # fmt: skip
    found = against_random_play(study, means, rows)
    assert found["variants"]["iris"]["verdict"] == "better"
    assert found["variants"]["fsq"]["verdict"] == "not separated"
    cell = found["cells"]["Catch"]["iris"]
    assert cell["difference"]["value"] == pytest.approx(0.5 - cell["random_mean"])
    assert cell["difference"]["low"] < cell["difference"]["value"] < cell["difference"]["high"]
    assert cell["p_holm"] == pytest.approx(4 * cell["p"]), "variants x games are one family"
    alone = {Run("iris", "Catch", 0): 0.5}
    one = against_random_play(replace(study, variants=study.variants[:1]), alone, rows)["variants"]["iris"]
    assert (one["games"], one["verdict"]) == (["Catch"], "too few runs")


def test_without_random_play_there_is_nothing_to_say() -> None:
    study = synthetic.study(games=("Pong",), num_variants=1, num_seeds=2)
    assert against_random_play(study, {Run("iris", "Pong", 0): 1.0}, []) == {}
