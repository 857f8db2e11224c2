"""The CSV and JSON files between the stages and the report: what they give, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from irisflow.errors import DataError
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.statistics.inputs import read_costs, read_metrics, read_provenance, read_timings
from irisflow.statistics.scores import Run, curve_means, read_scores, run_means


def episode(**changes: Any) -> EpisodeScore:
    """Return a valid row, changed."""
    row = EpisodeScore(
        variant="iris",
        axis="",
        game="Pong",
        seed=0,
        split="final",
        env_step=100,
        pretraining_env_steps=0,
        frames=400,
        episode=0,
        return_raw=-20.0,
        length=800,
        truncated=False,
        eval_seed=7,
        temperature=0.5,
        epsilon=0.0,
        sticky=0.0,
        full_action_set=False,
        checkpoint_sha256="ab",
        run_id="r0",
    )
    return row._replace(**changes)


def written(folder: Path, *rows: EpisodeScore, name: str = "scores.csv") -> Path:
    """Return the path of a file with these rows."""
    path = folder / name
    path.write_text(to_csv(rows))
    return path


def test_what_is_written_is_read_back_whatever_the_order_of_files_and_rows(tmp_path: Path) -> None:
    rows = [episode(episode=number) for number in range(3)]
    other = episode(seed=1, run_id="r1", split="curve")
    first, second = written(tmp_path, *rows[::-1], name="b.csv"), written(tmp_path, other, name="a.csv")
    assert read_scores([first, second]) == read_scores([second, first]) == sorted([*rows, other])


def test_a_run_scores_the_mean_of_its_final_episodes() -> None:
    rows = [episode(episode=0, return_raw=-20.0), episode(episode=1, return_raw=-10.0)]
    rows.append(episode(split="curve", return_raw=21.0, env_step=50))
    assert run_means(rows) == {Run("iris", "Pong", 0): -15.0}
    assert curve_means(rows) == {Run("iris", "Pong", 0): {50: 21.0}}


@pytest.mark.parametrize(
    ("changes", "column", "allowed"),
    [
        ({"return_raw": 30.0}, "return_raw", "-21 to 21 in Pong"),
        ({"return_raw": float("nan")}, "return_raw", "a finite number"),
        ({"return_raw": float("inf")}, "return_raw", "a finite number"),
        ({"seed": -1}, "seed", "a whole number"),
        ({"split": "test"}, "split", "final or curve"),
        ({"truncated": "maybe"}, "truncated", "True or False"),
        ({"variant": ""}, "variant", "a name"),
    ],
)
def test_a_bad_value_is_refused_with_file_row_and_column(
    tmp_path: Path, changes: dict[str, Any], column: str, allowed: str
) -> None:
    path = written(tmp_path, episode(), episode(episode=1, **changes))
    with pytest.raises(DataError) as error:
        read_scores([path])
    message = str(error.value)
    assert f"{path}, row 3, column {column}" in message and allowed in message and "\n" not in message


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({}, "episode"),
        ({"episode": 1, "seed": 1}, "seed"),
        ({"episode": 1, "run_id": "other"}, "run_id"),
        ({"episode": 1, "checkpoint_sha256": "cd"}, "checkpoint_sha256"),
        ({"seed": 1, "run_id": "r1", "temperature": 1.0}, "temperature"),
        ({"seed": 1, "run_id": "r1", "sticky": 0.25}, "sticky"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: dict[str, Any], column: str
) -> None:
    path = written(tmp_path, episode(), episode(**changes))
    with pytest.raises(DataError, match=f"row 3, column {column}:"):
        read_scores([path])


def test_an_unknown_column_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = written(tmp_path, episode())
    path.write_text(path.read_text().replace("return_raw", "return_row"))
    with pytest.raises(DataError, match=r"row 1: column 'return_row' is unknown.*nearest: return_raw"):
        read_scores([path])


def test_a_missing_column_a_short_row_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, episode())
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in path.read_text().splitlines()))
    with pytest.raises(DataError, match="'run_id' is missing"):
        read_scores([path])
    path.write_text(to_csv([episode()]) + "iris,,Pong\n")
    with pytest.raises(DataError, match="row 3"):
        read_scores([path])
    with pytest.raises(DataError, match="cannot be read"):
        read_scores([tmp_path / "absent.csv"])


COST = {
    "stage": "train_agent",
    "variant": "iris",
    "game": "Pong",
    "seed": 0,
    "run_id": "r0",
    "wall_s": 1.5,
    "env_steps": 10,
    "num_updates": {},
    "peak_rss_mb": 100,
    "device": "cpu",
    "parameters": None,
}


def test_costs_are_read_and_a_bad_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(COST))
    assert read_costs([path]) == [COST]
    for changes in ({"wall_s": "long"}, {"wall_s": float("nan")}, {"wall_s": True}):
        path.write_text(json.dumps({**COST, **changes}))
        with pytest.raises(DataError, match="key 'wall_s'"):
            read_costs([path])
    path.write_text(json.dumps({**COST, "num_resumes": 2}))
    assert read_costs([path])[0]["num_resumes"] == 2
    path.write_text(json.dumps({**COST, "num_resumes": "two"}))
    with pytest.raises(DataError, match="key 'num_resumes'"):
        read_costs([path])


def test_provenance_without_a_key_and_broken_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text('{"stage": "train_agent"}')
    with pytest.raises(DataError, match="key 'digest': found nothing"):
        read_provenance([path])
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_provenance([path])


def test_metrics_are_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "env_steps": 200, "train/total": 0.5}\n{"epoch": 2}\n')
    with pytest.raises(DataError, match="row 2: key 'env_steps'"):
        read_metrics(path)
    path.write_text('{"epoch": 1, "env_steps": 200, "train/total": 0.5}\n')
    assert read_metrics(path) == [{"epoch": 1.0, "env_steps": 200.0, "train/total": 0.5}]


def test_timings_are_read_row_by_row_and_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "timings.jsonl"
    path.write_text('{"epoch": 1, "seconds/collect": 2.5}\n')
    assert read_timings(path) == [{"epoch": 1.0, "seconds/collect": 2.5}]
    for number in ("NaN", "Infinity", "1" + 400 * "0"):
        path.write_text(f'{{"epoch": 1}}\n{{"epoch": 2, "seconds/collect": {number}}}\n')
        with pytest.raises(DataError, match="row 2: a number is too large or not finite"):
            read_timings(path)
