"""What training's phases took, over epochs and runs."""

import pytest

from irisflow.statistics.phases import MEANS, phase_rows
from irisflow.statistics.scores import Run

TIMINGS = {
    Run("iris", "Pong", 0): [
        {
            "epoch": 1,
            "seconds/tokenizer": 10.0,
            "updates_per_s/tokenizer": 5.0,
            "peak_rss_mb/tokenizer": 100.0,
        },
        {
            "epoch": 2,
            "seconds/tokenizer": 30.0,
            "updates_per_s/tokenizer": 1.0,
            "peak_rss_mb/tokenizer": 300.0,
        },
    ],
    Run("iris", "Pong", 1): [{"epoch": 1, "seconds/tokenizer": 20.0, "seconds/collect": 20.0}],
    Run("fsq", "Pong", 0): [{"epoch": 1, "seconds/collect": 5.0, "steps_per_s/collect": 40.0}],
}
WALL = {"iris": 100.0, "fsq": 5.0}


def rows() -> dict[tuple[str, str], dict[str, float]]:
    return {(row["variant"], row["phase"]): row for row in phase_rows(TIMINGS, WALL, ["fsq", "iris"])}


def test_a_rate_is_all_the_work_over_the_time_in_which_it_was_counted() -> None:
    assert rows()["iris", "tokenizer"]["updates_per_s"] == pytest.approx((50 + 30) / 40)
    assert rows()["fsq", "collect"]["steps_per_s"] == pytest.approx(40)


def test_seconds_are_sums_memory_is_the_largest_and_what_nobody_measured_is_none() -> None:
    row = rows()["iris", "tokenizer"]
    assert (row["seconds"], row["num_runs"], row["peak_rss_mb"]) == (60.0, 2, 300.0)
    assert row["gpu_utilisation"] is None and row["cuda_peak_mb"] is None
    assert all(rows()["iris", "collect"][name] is None for name in MEANS)


def test_the_rest_of_the_jobs_wall_clock_is_other_and_shares_add_up_to_one() -> None:
    assert rows()["iris", "other"]["seconds"] == pytest.approx(20.0)
    assert ("fsq", "other") not in rows(), "nothing is left of its 5 seconds"
    for variant in WALL:
        assert sum(row["share"] for row in rows().values() if row["variant"] == variant) == pytest.approx(1)


def test_rows_follow_the_order_of_the_variants_and_of_the_schedule() -> None:
    assert list(rows()) == [("fsq", "collect"), ("iris", "collect"), ("iris", "tokenizer"), ("iris", "other")]


def test_runs_that_wrote_no_seconds_give_no_rows() -> None:
    assert phase_rows({run: [] for run in TIMINGS}, WALL, ["iris", "fsq"]) == []
