"""Every study of the field's questions, from frames to the report, at scale `smoke` on one game and seed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from warm_stages import warm_python

from irisflow.study import load_study
from workspace import copy_checkout, run

# Less of each variant's play and of what its world model is measured on: the chain is what is tested.
LESS = (
    "collection.train.config.num_steps=16", "evaluation.every=2", "evaluation.final.num_episodes=1",
    "evaluation.num_snapshots=1", "evaluation.world_model_quality.num_starts=2",
)  # fmt: skip
STUDIES = (
    "tokenizer_losses",
    "quantizers",
    "backbones",
    "predictions",
    "retnet_parallel",
    "pretraining",
    "language_model",
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def checkout_and_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A checkout in which studies share what they have in common, and a Python that starts jobs without a wait."""
    checkout = copy_checkout(tmp_path_factory.mktemp("studies"))
    with warm_python(tmp_path_factory.mktemp("warm") / "environment", checkout) as python:
        yield checkout, python


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_to_its_report(name: str, checkout_and_python: tuple[Path, Path]) -> None:
    checkout, python = checkout_and_python
    overrides = f"overrides={json.dumps(LESS)}"
    config = ("--config", f"study={name}", "scale=smoke", "games=[Catch]", "seeds=[0]", overrides)
    run(checkout, str(python), "-m", "snakemake", "--cores", "2", *config, check=True)
    study = load_study(name)
    summary = json.loads((checkout / "reports/summary.json").read_text(encoding="utf-8"))
    assert summary["study"]["name"] == name and summary["study"]["games"] == ["Catch"]
    assert {variant["name"] for variant in summary["study"]["variants"]} == set(study.variants)
    assert summary["coverage"]["is_complete"]
    assert all(summary["aggregates"][variant] for variant in study.variants)
    assert (checkout / "reports/summary.pdf").read_bytes().startswith(b"%PDF")
    combinations = [found["both"] for grid in summary["interactions"] for found in grid["contrasts"]]
    assert combinations == (["prediction_parallel_retnet"] if name == "retnet_parallel" else [])


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_compares_variants_of_one_question_with_iris_at_quick_and_can_be_run_at_full(
    name: str,
) -> None:
    study = load_study(name)
    assert (study.scale, study.baseline) == ("quick", "iris")
    assert set(load_study(name, scale="full").variants) == set(study.variants)
