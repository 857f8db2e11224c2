"""Ranks, ablations, costs, promises: titles that are true of their numbers, and pages at every size of a study."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report import pages_of, summary_of

from irisflow.reporting import ablation, compact, efficiency, findings, learning, notes, optimism, ranks
from irisflow.reporting.document import build_report
from irisflow.reporting.style import each, several


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """The summary of 2 games x 4 seeds x 3 variants, each with an axis."""
    description = synthetic.with_axes(
        synthetic.study(games=("Pong", "Breakout"), num_variants=3, num_seeds=4)
    )
    description = replace(description, bootstrap_reps=50)
    rows = synthetic.episodes_of(description, num_evaluations=4)
    return summary_of(description, rows, measured=synthetic.world_model_of(description))


@pytest.fixture(scope="module")
def folder(summary: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deeper")
    build_report(summary, {}, folder)
    return folder


def rows_of(folder: Path, identifier: str) -> list[dict[str, str]]:
    with (folder / "figures" / f"{identifier}.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_new_figure_and_table_has_its_page_and_files(folder: Path) -> None:
    text = "\n".join(pages_of(folder))
    for identifier in ("F18", "F19", "F20", "F21", "F22", "F23", "T11", "T12", "T13"):
        assert f"{identifier} " in text
    for number in range(18, 24):
        for ending in ("svg", "png", "csv"):
            assert (folder / "figures" / f"F{number}.{ending}").stat().st_size > 50
    page = (folder / "summary.html").read_text()
    assert all(f'<figure class="block" id="F{number}"' in page for number in range(18, 24))


def test_ranks_are_drawn_as_they_are_counted(folder: Path, summary: dict[str, Any]) -> None:
    rows = rows_of(folder, "F18")
    assert len(rows) == 9
    for row in rows:
        assert float(row["share"]) == summary["ranks"][row["variant"]]["shares"][int(row["rank"]) - 1]


def test_the_tornado_has_the_largest_difference_first_and_the_table_repeats_the_baseline(
    folder: Path, summary: dict[str, Any]
) -> None:
    sizes = [abs(float(row["value"])) for row in rows_of(folder, "F19")]
    assert sizes == sorted(sizes, reverse=True)
    table = ablation.ablation_table(summary)
    assert [(row[0], row[1]["text"]) for row in table["rows"]] == [
        ("quantizer", "iris"), ("", "fsq"), ("prediction", "iris"), ("", "parallel"),
    ]  # fmt: skip


def test_a_variant_is_on_the_front_unless_another_is_better_and_cheaper(summary: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(summary))
    for name, value, wall_s in (("iris", 0.5, 100.0), ("fsq", 0.6, 100.0), ("parallel", 0.7, 300.0)):
        changed["aggregates"][name]["iqm"]["value"] = value
        for row in changed["cost"]["rows"]:
            if (row["stage"], row["variant"]) == ("train_agent", name):
                row["wall_s"], row["num_jobs"] = wall_s, 1
    assert [name for name, point in efficiency.prices(changed).items() if point["is_on_front"]] == [
        "fsq", "parallel",
    ]  # fmt: skip
    assert "parallel, the highest, takes 3.00 times as long as iris" in efficiency.front_finding(changed)


def test_a_target_that_half_of_the_runs_never_reach_is_marked(summary: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(summary))
    changed["efficiency"]["targets"]["iris"][-1] |= {"median_step": None, "num_reached": 1}
    cells = efficiency.targets_table(changed)["rows"][0]
    assert cells[-1] == {"text": "> 100,000 (1 of 8)", "style": "muted"}


def test_promises_are_told_with_their_sign(folder: Path) -> None:
    text = "\n".join(pages_of(folder))
    assert "Imagined minus real return of the same policy, 19 steps ahead: iris +0.0" in text
    rows = [row for row in rows_of(folder, "F22") if row["measure"] == "imagined minus real return"]
    assert all(float(row["value"]) > 0 for row in rows) and {row["place"] for row in rows} == {
        "Pong", "Breakout",
    }  # fmt: skip


def test_without_own_play_the_figure_still_has_the_error_of_rewards(summary: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(summary))
    quality = changed["world_model"]
    quality["curves"] = [record for record in quality["curves"] if record["mode"] != "own_policy"]
    drawing = optimism.draw_promises(changed)
    assert drawing.title.startswith("Error of the imagined sum of rewards")
    assert {row["measure"] for row in drawing.rows} == {"reward error", "value", "value's target"}


def test_seeds_needed_and_changed_keys_are_told(folder: Path, summary: dict[str, Any]) -> None:
    text = " ".join("\n".join(pages_of(folder)).split())
    assert "Seeds needed" in text and "for 80 % power" in text and "tokenizer.levels" in text
    assert notes.power_note({**summary, "power": {}})["Seeds needed"].startswith("one seed says nothing")
    assert notes.power_note({**summary, "comparisons": {}}) == {}


def test_titles_say_that_equals_are_equal(summary: dict[str, Any]) -> None:
    level = json.loads(json.dumps(summary))
    for name in level["aggregates"]:
        level["aggregates"][name]["iqm"]["value"] = 0.5
        level["profiles"]["above_one"][name] = 0.0
        level["ranks"][name]["mean"] = 2.0
    for record in level["comparisons"].values():
        record["iqm_difference"]["value"] = 0.0
        record["per_game"] = dict.fromkeys(record["per_game"], 0.5)
    assert findings.aggregates(level) == "No variant lies above another: the IQM of all 3 is 0.500."
    assert findings.difference(level) == "No variant differs from iris in IQM."
    assert "0 % for every variant" in findings.profiles(level)
    assert "0 of 2 for every variant" in findings.forest(level)
    assert ranks.ranks_finding(level).startswith("No variant ranks above another")
    assert ablation.tornado_finding(level) == "No change moves the IQM of iris."
    level["aggregates"]["iris"]["iqm"]["value"] = 0.1
    assert findings.aggregates(level) == "fsq and parallel share the highest IQM, 0.500; iris 0.100."


def test_the_curves_title_counts_the_games_whose_score_rises(summary: dict[str, Any]) -> None:
    told = json.loads(json.dumps(summary))
    for place, row in enumerate(told["curves"]["games"].values()):
        row["iris"] |= {"steps": [1, 2, 3], "mean": [2.0, 9.0, 1.0 + 2 * place]}
        row["fsq"] |= {"steps": [1, 2], "mean": [-2.0, -1.0]}
        row["parallel"] |= {"steps": [1], "mean": [5.0]}
    assert learning.curves_finding(told).endswith("than at the first: iris 1 of 2, fsq 2 of 2.")
    for row in told["curves"]["games"].values():
        for record in row.values():
            record |= {"steps": [], "mean": []}
    assert learning.curves_finding(told).startswith("Raw score while training: ")


def test_the_losses_title_counts_the_variants_whose_loss_falls() -> None:
    rows = [
        {"loss": "tokenizer", "variant": variant, "median": value}
        for variant, values in (("iris", (0.5, 0.9, 0.4)), ("fsq", (0.5, 0.4, 0.6)))
        for value in values
    ]
    told = "Variants whose training loss ends lower than it began: tokenizer 1 of 2."
    assert learning.losses_finding(rows) == told


def test_one_value_of_many_is_told_once() -> None:
    assert several([(1.0, f"{letter} 1") for letter in "abcde"]) == "a 1, the other 4 the same"
    assert each({"a": 0.2, "b": 0.3}, lambda value: f"{value:g}") == "a 0.2, b 0.3"
    assert each({"a": 0.2}, lambda value: f"{value:g}") == "a 0.2"


def test_many_variants_have_a_row_each_in_costs_and_phases() -> None:
    description = replace(synthetic.study(games=("Pong",), num_variants=11, num_seeds=1), bootstrap_reps=1)
    summary = summary_of(description, synthetic.episodes_of(description, num_evaluations=1))
    cost, phases = compact.cost_table_of(summary), compact.phases_table_of(summary)
    assert [len(table["rows"]) for table in (cost, phases)] == [12, 11]
    wall_s = {row["stage"]: row["wall_s"] for row in summary["cost"]["rows"] if row["variant"] == "iris"}
    titles = [column["title"] for column in cost["columns"]]
    assert (
        cost["rows"][0][titles.index("Wall-clock:\ntrain_agent")] == f"{wall_s['train_agent'] / 3600:,.1f} h"
    )
    for table in (cost, phases):
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
