"""Two changes at once: the page is there where a study combines changes, and nowhere else."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report import pages_of, summary_of

from irisflow.reporting import interactions
from irisflow.reporting.document import build_report
from irisflow.statistics.study import StudyDescription

FIRST = (("tokenizer.quantizer.name", "vq", "fsq"),)
SECOND = (("world_model.prediction.name", "autoregressive", "parallel"),)


def study(*, num_seeds: int = 4) -> StudyDescription:
    """Return a study of the baseline, two changes, both, and one that stands alone."""
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=5, num_seeds=num_seeds)
    written = {"fsq": FIRST, "parallel": SECOND, "pretrained_tokenizer": FIRST + SECOND}
    axes = {
        "fsq": "quantizer",
        "parallel": "prediction",
        "pretrained_tokenizer": "both",
        "retnet": "backbone",
    }
    variants = tuple(
        replace(
            variant, axis=axes.get(variant.name, "baseline"), written_changes=written.get(variant.name, ())
        )
        for variant in description.variants
    )
    return replace(description, variants=variants, bootstrap_reps=50)


def built(folder: Path, shift: float) -> dict[str, Any]:
    """Build the report of a study whose combination has `shift` beside the sum of its parts."""
    description = study()
    shifts = {"fsq": 0.3, "parallel": 0.2, "pretrained_tokenizer": 0.5 + shift}
    rows = synthetic.episodes_of(description, shifts=shifts, num_evaluations=2)
    summary = summary_of(description, rows)
    build_report(summary, {}, folder)
    return summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interaction")
    built(folder, 4.0)
    return folder


def test_a_grid_its_table_and_its_numbers_are_there(folder: Path) -> None:
    text = next(text for text in pages_of(folder) if "Two changes at once" in text)
    for words in (
        "F24",
        "T15",
        "fsq and parallel together give",
        "more than the sum of what each gives alone",
    ):
        assert words in text
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (grid,) = summary["interactions"]
    (contrast,) = grid["contrasts"]
    assert contrast["iqm"]["low"] > 1
    with (folder / "figures" / "F24.csv").open() as file:
        rows = {(row["row"], row["column"]): row for row in csv.DictReader(file)}
    assert {place: row["variant"] for place, row in rows.items()} == {
        ("iris", "iris"): "iris", ("fsq", "iris"): "fsq", ("iris", "parallel"): "parallel",
        ("fsq", "parallel"): "pretrained_tokenizer",
    }  # fmt: skip
    for row in rows.values():
        assert float(row["value"]) == summary["aggregates"][row["variant"]]["iqm"]["value"]
    assert float(rows["fsq", "parallel"]["interaction_low"]) == contrast["iqm"]["low"]
    assert rows["fsq", "iris"]["interaction_value"] == ""
    assert r"\label{tab:T15}" in (folder / "tables" / "T15.tex").read_text(encoding="utf-8")
    assert '<figure class="block" id="F24"' in (folder / "summary.html").read_text(encoding="utf-8")


def test_a_study_without_combinations_says_nothing_of_them(tmp_path: Path) -> None:
    description = synthetic.with_axes(synthetic.study(games=("Pong",), num_variants=3, num_seeds=2))
    summary = summary_of(replace(description, bootstrap_reps=20))
    build_report(summary, {}, tmp_path)
    text = "\n".join(pages_of(tmp_path))
    assert summary["interactions"] == [] and "F24" not in text and "T15" not in text
    assert not list(tmp_path.rglob("F24*"))
    older = {key: value for key, value in summary.items() if key != "interactions"}
    assert interactions.grids_of(older) == []


def test_titles_are_true_of_their_numbers() -> None:
    summary = summary_of(study())
    contrast = summary["interactions"][0]["contrasts"][0]
    for estimate, words in (
        ({"value": 0.2, "low": -0.1, "high": 0.5}, "0.200 more than the sum of what each gives alone (IQM)"),
        ({"value": 0.2, "low": -0.1, "high": 0.5}, "the interval holds 0"),
        ({"value": -0.2, "low": -0.4, "high": -0.1}, "0.200 less than the sum"),
        ({"value": 0.2, "low": None, "high": None}, "one run each, no interval"),
        ({"value": 0.0, "low": -0.1, "high": 0.1}, "as much as the sum of what each gives alone (IQM) ["),
    ):
        contrast["iqm"] = estimate
        assert words in interactions.interaction_finding(summary)
    contrast["iqm"] = {"value": -0.2, "low": -0.4, "high": -0.1}
    assert "holds 0" not in interactions.interaction_finding(summary)
    second = {**contrast, "first": "retnet", "iqm": {"value": 0.1, "low": -0.4, "high": 0.6}}
    summary["interactions"][0]["contrasts"].append(second)
    finding = interactions.interaction_finding(summary)
    assert (
        finding.startswith("Furthest from the sum of its parts: fsq and parallel")
        and "1 of 2 comb" in finding
    )
