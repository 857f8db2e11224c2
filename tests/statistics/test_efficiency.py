"""What a score takes: sums over epochs, medians over runs, and runs that never get there."""

import pytest

from irisflow.statistics.efficiency import TARGETS, efficiency_summary
from irisflow.statistics.scores import Run

RUNS = [Run("iris", "Catch", seed) for seed in range(3)]  # random play: -0.6, perfect: 1
CURVES = {
    RUNS[0]: {100: -0.6, 200: 0.3, 300: 1.0},
    RUNS[1]: {100: -0.6, 200: -0.5, 300: 0.3},
    RUNS[2]: {100: -0.6, 200: -0.6, 300: -0.6},
}
POINTS = [{"env_step": step, "value": 0.0, "low": None, "high": None} for step in (100, 200, 300)]
METRICS = {run: [{"epoch": epoch, "env_steps": 50 * epoch} for epoch in range(1, 7)] for run in RUNS}
TIMINGS = {
    run: [
        {
            "epoch": epoch, "seconds/collect": 1.0, "seconds/tokenizer": 2.0, "updates_per_s/tokenizer": 5.0,
            "seconds/evaluate": 1000.0,
        }
        for epoch in range(1, 7)
    ]
    for run in RUNS
}  # fmt: skip


def found(**changed: object) -> dict:
    given = {"metrics": METRICS, "timings": TIMINGS, "pretraining": {"iris": 0}, **changed}
    return efficiency_summary(CURVES, {"iris": POINTS}, {"iris": RUNS}, **given)


def test_seconds_and_updates_are_those_of_all_epochs_until_then_without_evaluation() -> None:
    points = found()["spent"]["iris"]
    assert [(point["seconds"], point["updates"]) for point in points] == [(6, 20), (12, 40), (18, 60)]


def test_recorded_steps_take_no_training_and_an_epoch_without_timings_leaves_its_point_out() -> None:
    assert [point["updates"] for point in found(pretraining={"iris": 100})["spent"]["iris"]] == [20, 40]
    short = {**TIMINGS, RUNS[1]: TIMINGS[RUNS[1]][:4]}
    assert [point["env_step"] for point in found(timings=short)["spent"]["iris"]] == [100, 200]
    assert found(timings={})["spent"]["iris"] == []


def test_a_run_that_never_reaches_a_target_counts_as_later_than_the_last_evaluation() -> None:
    rows = {row["target"]: row for row in found()["targets"]["iris"]}
    assert list(rows) == list(TARGETS)
    assert (rows[0.1]["median_step"], rows[0.1]["num_reached"]) == (300, 2)
    assert (rows[1.0]["median_step"], rows[1.0]["num_reached"], rows[1.0]["last_step"]) == (None, 1, 300)


@pytest.mark.parametrize("curves", [{}, {RUNS[0]: {}}])
def test_without_curves_there_are_no_targets(curves: dict) -> None:
    found = efficiency_summary(curves, {"iris": []}, {"iris": RUNS}, METRICS, TIMINGS, {"iris": 0})
    assert found == {"spent": {"iris": []}, "targets": {}}
