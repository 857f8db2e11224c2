"""What Snakemake plans: for a study, after it has run, and after each kind of change."""

import os
import re
import shutil
from pathlib import Path

import pytest

from workspace import REPORT, STUDY_TITLE, edit, planned, snakemake

pytestmark = pytest.mark.slow
LAST = {"aggregate": 1, "report": 1}
EVALUATED = {"evaluate": 4, **LAST}
MEASURED = {"measure_world_model": 4, **LAST}
TRAINED = {"train_agent": 4, "hold_out": 2, **MEASURED, **EVALUATED}


@pytest.mark.parametrize(("study", "num_games", "num_seeds"), [("atari100k", 26, 5), ("quick", 2, 2)])
def test_a_study_plans_each_run_once_and_shares_pretraining(
    checkout: Path, study: str, num_games: int, num_seeds: int
) -> None:
    cells = num_games * num_seeds
    pretraining = {"collect": cells, "pretrain_tokenizer": cells, "pretrain_world_model": cells}
    runs = dict.fromkeys(("train_agent", "evaluate", "measure_world_model"), 2 * cells)
    runs["hold_out"] = num_games
    assert planned(checkout, REPORT, "--config", f"study={study}") == {**pretraining, **runs, **LAST}


def test_a_part_of_a_study_is_planned_from_the_command_line(checkout: Path, finished: Path) -> None:
    part = ("--config", "study=atari100k", "games=[Pong]", "seeds=[0, 1, 7]")
    assert planned(checkout, REPORT, *part)["train_agent"] == 2 * 3
    assert planned(finished, REPORT, "--config", "games=[Pong]") == LAST


def test_a_second_run_does_nothing(smoke_run: Path) -> None:
    result = snakemake(smoke_run, REPORT, "--cores", "2", check=True)
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "expected"),
    [
        ("params/scale/smoke.yaml", r"gamma: 0\.995", "gamma: 0.99", TRAINED),
        ("params/scale/smoke.yaml", r"ch: 8\b", "ch: 16", {"pretrain_tokenizer": 2, "pretrain_world_model": 2, **TRAINED}),
        ("params/scale/smoke.yaml", r"num_layers: 1", "num_layers: 2", {"pretrain_world_model": 2, **TRAINED}),
        ("params/scale/smoke.yaml", r"num_episodes: 3", "num_episodes: 4", EVALUATED),
        ("params/config.yaml", r"num_films: 4", "num_films: 3", MEASURED),
        ("params/config.yaml", r"epsilon: 0\.3", "epsilon: 0.2", {"hold_out": 2, **MEASURED}),
        ("params/config.yaml", r"(world_model_quality:.*\n +should: )true", r"\1false", LAST),
        ("params/study/smoke.yaml", STUDY_TITLE, "Another title", {"report": 1}),
        ("params/config.yaml", r"(?m)^common:", "# A remark.\ncommon:", {}),
        ("src/irisflow/reporting/style.py", r"\A", "# A remark.\n", {"report": 1}),
    ],
    ids=[
        "gamma", "tokenizer width", "world-model depth", "evaluation episodes", "films", "held-out policy",
        "no measurements", "title",
        "comment", "reporting code",
    ],
)  # fmt: skip
def test_a_change_plans_what_reads_it_and_nothing_else(
    finished: Path, file: str, pattern: str, replacement: str, expected: dict[str, int]
) -> None:
    edit(finished / file, pattern, replacement)
    assert planned(finished) == expected


def test_another_matrix_or_other_statistics_train_nothing_anew(finished: Path) -> None:
    edit(finished / "params/study/smoke.yaml", r"games: \[Catch, Pong\]", "games: [Pong]")
    edit(finished / "params/study/smoke.yaml", r"bootstrap_reps: 200", "bootstrap_reps: 300")
    edit(finished / "src/irisflow/launch.py", r"\A", "# A remark in the other door.\n")
    assert planned(finished) == LAST


def test_one_stage_can_be_forced_and_what_stands_on_it_follows(smoke_run: Path) -> None:
    later = dict.fromkeys(("pretrain_world_model", "train_agent", "evaluate", "measure_world_model"), 2)
    expected = {"pretrain_tokenizer": 2, **later, **LAST}
    assert planned(smoke_run, REPORT, "--forcerun", "pretrain_tokenizer") == expected


def test_deleted_scores_of_one_seed_are_evaluated_again_to_the_same_numbers(finished: Path) -> None:
    scores = finished / "results/smoke/scores/iris/Pong/seed-0"
    before = (scores / "scores.csv").read_text()
    shutil.rmtree(scores)
    assert planned(finished) == {"evaluate": 1, **LAST}
    snakemake(finished, REPORT, "--cores", "2", check=True)
    assert (scores / "scores.csv").read_text() == before
    assert planned(finished) == {}


def test_no_more_training_jobs_run_at_once_than_there_are_cores(checkout: Path) -> None:
    result = snakemake(checkout, REPORT, "--dry-run", "--cores", "8", check=True)
    threads = re.findall(r"rule train_agent:(?:\n .*)*?\n    threads: (\d+)", result.stdout + result.stderr)
    assert {int(number) for number in threads} <= {max(1, 8 // len(os.sched_getaffinity(0)))} and threads
