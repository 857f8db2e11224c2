"""Aggregates against the published ones, rliable's own functions, and answers known beforehand."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from rliable import library, metrics

from irisflow.envs.toy import Catch
from irisflow.games import ATARI_100K
from irisflow.statistics import aggregate, bootstrap
from irisflow.statistics.baselines import published_baselines
from irisflow.statistics.bootstrap import seeded
from irisflow.statistics.reference import (
    PUBLISHED,
    PUBLISHED_SHA256,
    reference,
)

PUBLISHED_BASELINES = published_baselines(ATARI_100K, reps=100)


def scores(num_runs: int = 5, num_games: int = 6, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return normalised scores of made-up runs."""
    return np.random.default_rng(seed).normal(0.5 + shift, 0.4, (num_runs, num_games))


def test_the_published_scores_are_the_file_that_was_checked() -> None:
    assert hashlib.sha256(PUBLISHED.read_bytes()).hexdigest() == PUBLISHED_SHA256


@pytest.mark.parametrize(
    ("label", "iqm", "mean", "median", "gap", "superhuman"),
    [
        ("SimPLe", 0.130, 0.332, 0.134, 0.729, 1),
        ("SPR", None, 0.616, 0.396, None, 6),  # of which the means of runs are published, which give no IQM
        ("TWM", 0.459, 0.956, 0.505, 0.513, 8),
        ("DreamerV3", 0.487, 1.124, 0.485, 0.510, 9),
        ("IRIS", 0.501, 1.046, 0.289, 0.512, 10),
        ("DIAMOND", 0.641, 1.459, 0.373, 0.480, 11),
        ("REM", 0.673, 1.222, 0.280, 0.482, 12),
        ("Δ-IRIS", 0.682, 1.383, 0.594, 0.443, 12),
        ("Simulus", 0.990, 1.645, 0.982, 0.412, 13),
        ("EfficientZero", 1.047, 1.943, 1.090, 0.367, 14),
        ("Random play", 0, 0, 0, 1, 0),
        ("Human play", 1, 1, 1, 0, 26),
    ],
)
def test_published_aggregates_are_reproduced_to_three_digits(
    label: str, iqm: float | None, mean: float, median: float, gap: float | None, superhuman: int
) -> None:
    (found,) = [record for record in PUBLISHED_BASELINES if record["label"] == label]
    expected = {"iqm": iqm, "median": median, "mean": mean, "optimality_gap": gap}
    assert {metric: round(record["value"], 3) for metric, record in found["metrics"].items()} == {
        metric: value for metric, value in expected.items() if value is not None
    }
    assert found["num_superhuman"] == superhuman and found["sources"] and found["badge"]


def test_what_is_published_in_one_number_a_game_gives_no_interval_and_other_games_give_nothing() -> None:
    (spr,) = [record for record in PUBLISHED_BASELINES if record["label"] == "SPR"]
    assert spr["num_runs"] is None and spr["metrics"]["mean"]["low"] is None
    (iris,) = [record for record in PUBLISHED_BASELINES if record["label"] == "IRIS"]
    assert iris["metrics"]["iqm"]["low"] < 0.501 < iris["metrics"]["iqm"]["high"]
    assert published_baselines(("Catch",), reps=10) == published_baselines((), reps=10) == []


def test_random_play_in_catch_scores_what_the_reference_says() -> None:
    env, rng = Catch(), np.random.default_rng(0)
    returns = []
    for ball in range(3000):
        env.reset(seed=ball)
        total, is_over = 0.0, False
        while not is_over:
            _, reward, is_over, _, _ = env.step(int(rng.integers(3)))
            total += reward
        returns.append(total)
    expected = reference("Catch")
    assert expected is not None and expected.best == 1.0
    assert abs(np.mean(returns) - expected.random) < 4 * np.std(returns) / np.sqrt(len(returns))


def test_a_game_without_reference_has_none() -> None:
    assert reference("MyOwnGame-v0") is None


@pytest.mark.parametrize("shape", [(5, 4, 26), (2, 3, 1), (1, 1, 4), (7, 7, 5)])
def test_probability_of_improvement_equals_rliables(shape: tuple[int, int, int]) -> None:
    num_x, num_y, num_games = shape
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, (num_x, num_games)) * 1.0, rng.integers(0, 5, (num_y, num_games)) * 1.0
    ours = aggregate.probability_of_improvement(x, y)
    assert ours == pytest.approx(metrics.probability_of_improvement(x, y), abs=1e-12)


@pytest.mark.parametrize("num_values", [1, 2, 3, 4, 5, 7, 8, 130])
def test_our_iqm_equals_rliables(num_values: int) -> None:
    values = np.random.default_rng(1).normal(size=(num_values, 1))
    assert aggregate.iqm(values) == pytest.approx(metrics.aggregate_iqm(values), abs=1e-12)


def test_performance_profile_equals_rliables() -> None:
    x, thresholds = scores(), np.linspace(-1, 2, 31)
    ours = [share.value for share in aggregate.performance_profile(x, thresholds, name="x", reps=10)]
    assert ours == pytest.approx(library.score_distributions(x, thresholds).tolist(), abs=1e-12)


def of_rliable(
    arrays: list[np.ndarray], statistic: Callable[..., np.ndarray], **options: object
) -> list[float]:
    """Return rliable's interval of a statistic, its own bootstrap and all; the generator must be seeded."""
    given = arrays if len(arrays) > 1 else arrays[0]
    _, found = library.get_interval_estimates({"name": given}, statistic, reps=120, **options)
    return list(found["name"].ravel().tolist())


@pytest.mark.parametrize("num_y", [4, 3], ids=["as many runs", "fewer runs"])
def test_intervals_of_pairs_are_rliables_own(num_y: int) -> None:
    x, y = scores(4, 3), scores(num_y, 3, shift=0.2, seed=1).round(1)
    improved = aggregate.improvement(x, y, names=("x", "y"), reps=120)
    with seeded("improvement", "x", "y"):
        theirs = of_rliable([x, y], lambda x, y: np.array([metrics.probability_of_improvement(x, y)]))
    assert [improved.low, improved.high] == pytest.approx(theirs, abs=1e-12)
    difference = aggregate.iqm_difference(x, y, names=("x", "y"), reps=120)
    with seeded("difference", "x", "y"):
        theirs = of_rliable(
            [x, y], lambda x, y: np.array([metrics.aggregate_iqm(x) - metrics.aggregate_iqm(y)])
        )
    assert [difference.low, difference.high] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("should_resample_games", [False, True])
def test_intervals_of_aggregates_are_rliables_own(should_resample_games: bool) -> None:
    ours = aggregate.aggregates(
        scores(), name="x", reps=120, should_resample_games=should_resample_games
    ).values()
    with seeded("aggregates", "x"):
        theirs = of_rliable([scores()], aggregate.point_aggregates, task_bootstrap=should_resample_games)
    found = [metric.low for metric in ours] + [metric.high for metric in ours]
    assert found == pytest.approx(theirs, abs=1e-12)


def test_intervals_of_curves_and_profiles_are_rliables_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MOST_VALUES", 500)  # several portions
    steps, thresholds = np.stack([scores(), scores(shift=1.0, seed=2)], axis=2), np.linspace(-1, 2, 31)
    curve = aggregate.iqm_curve(steps, name="x", reps=120)
    with seeded("curve", "x"):
        theirs = of_rliable(
            [steps], lambda sample: np.array([metrics.aggregate_iqm(sample[..., step]) for step in (0, 1)])
        )
    found = [step.low for step in curve] + [step.high for step in curve]
    assert found == pytest.approx(theirs, abs=1e-12)
    profile = aggregate.performance_profile(scores(), thresholds, name="x", reps=120)
    with seeded("profile", "x"):
        _, bands = library.create_performance_profile({"x": scores()}, thresholds, reps=120)
    found = [share.low for share in profile] + [share.high for share in profile]
    assert found == pytest.approx(bands["x"].ravel().tolist(), abs=1e-12)


def test_the_interval_of_a_variant_does_not_depend_on_what_was_computed_before() -> None:
    alone = aggregate.aggregates(scores(), name="fsq", reps=100)
    aggregate.aggregates(scores(seed=9), name="other", reps=100)
    np.random.default_rng().normal()
    assert aggregate.aggregates(scores(), name="fsq", reps=100) == alone


def test_the_global_generator_is_left_as_it_was() -> None:
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    aggregate.aggregates(scores(), name="fsq", reps=20)
    assert np.random.rand() == expected


def test_one_seed_has_no_interval() -> None:
    one = scores(num_runs=1)
    assert all(metric.low is None for metric in aggregate.aggregates(one, name="x", reps=50).values())
    assert aggregate.improvement(one, one, names=("x", "y"), reps=50) == aggregate.Estimate(0.5)
    assert aggregate.iqm_curve(one[:, :, None], name="x", reps=50)[0].low is None
    assert aggregate.performance_profile(one, np.array([0.0]), name="x", reps=50)[0].low is None


def test_the_two_directions_of_an_improvement_mirror_each_other() -> None:
    x, y = scores(), scores(seed=1)
    forth = aggregate.improvement(x, y, names=("b", "a"), reps=200)
    back = aggregate.improvement(y, x, names=("a", "b"), reps=200)
    assert forth.low is not None and back.high is not None
    assert (forth.value, forth.low) == pytest.approx((1 - back.value, 1 - back.high))


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    hits = 0
    for draw in range(100):
        x = np.random.default_rng(draw).normal(0.5, 0.3, (10, 8))
        mean = aggregate.aggregates(x, name=str(draw), reps=100)["mean"]
        assert mean.low is not None and mean.high is not None
        hits += mean.low <= 0.5 <= mean.high
    assert 0.86 <= hits / 100 <= 0.99


def test_an_iqm_curve_has_the_iqm_of_each_step() -> None:
    steps = np.stack([scores(), scores(shift=1.0, seed=2)], axis=2)
    curve = aggregate.iqm_curve(steps, name="x", reps=50)
    assert [point.value for point in curve] == pytest.approx(
        [aggregate.iqm(steps[:, :, 0]), aggregate.iqm(steps[:, :, 1])]
    )
