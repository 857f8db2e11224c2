"""Random play as an arm of a study: planned on demand, on the agents' terms, and told of in the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from irisflow import cli, paths
from irisflow.errors import ConfigError
from irisflow.study import load_study
from workspace import REPORT, edit, planned, snakemake

PLAYED = {"play_random": 4, "aggregate": 1, "report": 1}


@pytest.mark.slow
def test_a_study_that_asks_for_random_play_gets_it_and_trains_nothing_anew(finished: Path) -> None:
    edit(finished / "params/study/smoke.yaml", r"seeds: \[0\]", "seeds: [0]\nrandom_play: 2")
    assert planned(finished) == PLAYED
    snakemake(finished, REPORT, "--cores", "2", check=True)
    assert planned(finished) == {}
    summary = json.loads((finished / "reports/summary.json").read_text())
    assert summary["random_play"]["games"]["Catch"]["seeds"].keys() == {"0", "1"}
    assert set(summary["random_play"]["variants"]) == {"iris", "iris_pretrained"}
    assert "random" not in summary["aggregates"]
    text = "".join(page.extract_text() for page in PdfReader(finished / REPORT).pages)
    assert "There are too few runs to separate iris from random play" in text


def test_random_play_scores_what_it_must_and_its_seeds_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--scale=smoke", "--game=Catch", "--override=evaluation.final.num_episodes=400")
    scores = []
    for seed in (0, 1):
        assert cli.main(["play-random", *options, f"--seed={seed}"]) == 0
        with (paths.random_play("smoke", "Catch", seed) / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["frames"] for row in rows} == {"0"}
        assert {(row["variant"], row["env_step"], row["length"]) for row in rows} == {("random", "0", "9")}
        scores.append([float(row["return_raw"]) for row in rows])
    assert scores[0] != scores[1]
    assert np.mean(scores) == pytest.approx(-0.6, abs=0.1), "1 ball in 5 is caught"


def test_a_negative_number_of_random_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="random_play is -1; allowed: 0 or more"):
        load_study("smoke", random_play=-1)
