"""From scores to the summary: planted effects, missing runs, warnings, and independence of order."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import synthetic

from irisflow.errors import ConfigError, DataError
from irisflow.games import ATARI_100K
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.summary import summarise

GAMES = ("Pong", "Breakout", "Alien", "Hero")


def study(**changes: Any) -> StudyDescription:
    """Return a small study, changed."""
    description = synthetic.study(games=GAMES, num_variants=3, num_seeds=3)
    return replace(description, bootstrap_reps=60, **changes)


def summary_of(description: StudyDescription, rows: list[Any] | None = None) -> dict[str, Any]:
    """Return the summary of a synthetic study, or of these rows."""
    rows = synthetic.episodes_of(description, num_evaluations=3) if rows is None else rows
    return summarise(
        description, rows, rows, synthetic.costs_of(description), synthetic.provenance_of(description)
    )


def test_a_planted_effect_is_found_and_a_copy_is_not_separated() -> None:
    description = study()
    rows = synthetic.episodes_of(description, shifts={"fsq": 2.0})
    base = [row for row in rows if row.variant == "iris"]
    copies = [row._replace(variant="parallel", run_id=f"copy {row.run_id}") for row in base]
    rows = [row for row in rows if row.variant != "parallel"] + copies
    comparisons = summary_of(replace(description, games=GAMES), rows)["comparisons"]
    assert comparisons["fsq"]["verdict"] == "better"
    assert comparisons["fsq"]["iqm_difference"]["value"] > 0.5
    copy = comparisons["parallel"]
    assert (copy["improvement"]["value"], copy["p"], copy["verdict"]) == (0.5, 1.0, "not separated")


def test_the_order_of_rows_and_variants_changes_no_number() -> None:
    description = study()
    rows = synthetic.episodes_of(description, num_evaluations=3)
    expected = summary_of(description, rows)
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    assert json.dumps(summary_of(description, shuffled)) == json.dumps(expected)
    reordered = summary_of(replace(description, variants=description.variants[::-1]), rows)
    for key in ("aggregates", "comparisons", "improvement_matrix", "profiles", "curves", "scores_sha256"):
        assert reordered[key] == expected[key]


def test_another_variant_moves_no_interval() -> None:
    description = study()
    rows = synthetic.episodes_of(description)
    fewer = replace(description, variants=description.variants[:2])
    alone = summary_of(fewer, [row for row in rows if row.variant != "parallel"])
    together = summary_of(description, rows)
    assert alone["aggregates"]["fsq"] == together["aggregates"]["fsq"]
    assert alone["comparisons"]["fsq"]["improvement"] == together["comparisons"]["fsq"]["improvement"]


def test_a_missing_run_is_listed_and_its_game_leaves_the_aggregates() -> None:
    description = study()
    rows = [
        row
        for row in synthetic.episodes_of(description)
        if (row.variant, row.game, row.seed) != ("fsq", "Pong", 1)
    ]
    summary = summary_of(description, rows)
    assert summary["coverage"]["missing"] == [["fsq", "Pong", 1]]
    assert summary["block"]["games"] == ["Breakout", "Alien", "Hero"]
    assert summary["block"]["seeds"] == [0, 1, 2]
    assert summary["all_available"]["fsq"]["num_runs"] == 11
    assert summary["all_available"]["iris"]["num_runs"] == 12
    assert summary_of(description)["all_available"] == {}
    assert summary["games"]["Pong"]["variants"]["fsq"]["seeds"].keys() == {"0", "2"}
    assert any(
        "PARTIAL" in caveat["text"] and "fsq/Pong/1" in caveat["text"] for caveat in summary["caveats"]
    )


def test_a_missing_seed_leaves_the_aggregates_where_that_keeps_more_runs() -> None:
    description = study()
    rows = [row for row in synthetic.episodes_of(description) if (row.variant, row.seed) != ("fsq", 2)]
    assert summary_of(description, rows)["block"] == {
        "games": list(GAMES),
        "seeds": [0, 1],
        "runs": {name: [0, 1] for name in description.variant_names},
        "normalised_games": list(GAMES),
    }


def test_no_common_run_gives_no_aggregate_and_no_comparison() -> None:
    description = study()
    seed_of = {"iris": 0, "fsq": 1, "parallel": 2}
    rows = [row for row in synthetic.episodes_of(description) if row.seed == seed_of[row.variant]]
    summary = summary_of(description, rows)
    assert summary["block"]["games"] == [] and summary["comparisons"] == {} and summary["profiles"] == {}
    assert summary["aggregates"] == {"iris": {}, "fsq": {}, "parallel": {}}


def test_a_variant_without_scores_and_scores_of_another_study_are_refused_in_one_line() -> None:
    description = study()
    rows = synthetic.episodes_of(description)
    with pytest.raises(DataError, match="no final score of 'fsq'"):
        summary_of(description, [row for row in rows if row.variant != "fsq"])
    with pytest.raises(DataError, match="column game: found 'Krull', allowed: Pong, Breakout") as error:
        summary_of(description, [*rows, rows[0]._replace(game="Krull")])
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="column seed: found 9"):
        summary_of(description, [*rows, rows[0]._replace(seed=9)])


def test_a_game_without_reference_is_shown_raw_and_left_out_of_normalised_aggregates() -> None:
    description = study(games=("Pong", "MyGame-v0"))
    summary = summary_of(description, synthetic.episodes_of(description))
    assert summary["block"]["normalised_games"] == ["Pong"]
    assert summary["games"]["MyGame-v0"]["variants"]["iris"]["mean"] is not None
    assert summary["games"]["MyGame-v0"]["variants"]["iris"]["normalised"] is None
    assert summary["comparisons"]["fsq"]["per_game"].keys() == {"Pong", "MyGame-v0"}
    assert any("No reference scores for MyGame-v0" in caveat["text"] for caveat in summary["caveats"])


def test_one_seed_has_no_interval_and_says_that_it_is_no_evidence() -> None:
    description = synthetic.study(games=("Catch",), num_variants=2, num_seeds=1, scale="smoke")
    summary = summary_of(description)
    texts = " ".join(caveat["text"] for caveat in summary["caveats"])
    assert summary["aggregates"]["iris"]["iqm"]["low"] is None
    assert summary["comparisons"]["fsq"]["verdict"] == "too few runs"
    assert "One seed: no interval" in texts and "SMOKE: not evidence" in texts
    assert "cannot reach p < .05" in texts and "perfect play, not human" in texts


def test_curves_hold_only_steps_that_every_run_has() -> None:
    description = study()
    rows = synthetic.episodes_of(description, num_evaluations=3)
    dropped = min(row.env_step for row in rows if row.split == "curve")
    kept = [
        row
        for row in rows
        if (row.split, row.env_step, row.game, row.seed, row.variant) != ("curve", dropped, "Pong", 0, "iris")
    ]
    curves = summary_of(description, kept)["curves"]
    assert [point["env_step"] for point in curves["iqm"]["iris"]] == [66_666, 100_000]
    assert [point["env_step"] for point in curves["iqm"]["fsq"]] == [33_333, 66_666, 100_000]


def test_the_full_matrix_against_iris_warns_of_little_and_a_reduced_one_of_more() -> None:
    full = synthetic.study(games=ATARI_100K, num_variants=2, num_seeds=5, scale="full", episodes=100)
    full = replace(full, bootstrap_reps=20)
    assert {caveat["level"] for caveat in summary_of(full)["caveats"]} == {"note"}
    levels = [caveat["level"] for caveat in summary_of(study())["caveats"]]
    assert levels[0] == "stop" and levels == sorted(levels, key=("stop", "warn", "note").index)


def test_a_dirty_tree_is_warned_of() -> None:
    description = study()
    rows = synthetic.episodes_of(description)
    records = [{**record, "dirty": True} for record in synthetic.provenance_of(description)]
    summary = summarise(description, rows, rows, [], records)
    assert summary["provenance"]["is_dirty"]
    assert any("uncommitted" in caveat["text"] for caveat in summary["caveats"])


def test_jobs_that_computed_differently_are_told_and_one_that_did_not_compute_is_none_of_them() -> None:
    description = study()
    rows = synthetic.episodes_of(description)
    records = synthetic.provenance_of(description)
    records.append({**records[0], "computing": {}})

    def notes(records: list[dict[str, Any]]) -> list[str]:
        texts = [caveat["text"] for caveat in summarise(description, rows, rows, [], records)["caveats"]]
        return [text for text in texts if "alike" in text or "machines" in text]

    assert notes(records) == []
    precise = {**records[0], "computing": {**records[0]["computing"], "precision": "bfloat16"}}
    plain = {**records[0], "computing": {**records[0]["computing"], "precision": "float32"}}
    assert notes([*records, precise, plain]) == [], "training has a precision of its own"
    threads = {**records[0], "computing": {"device": "cpu", "torch_threads": 2}}
    assert notes([*records, threads]) == ["Jobs did not all compute alike: torch threads 1, 2."]
    elsewhere = {**records[0], "hardware": {"processor": "Another", "cores": 2}}
    assert notes([*records, elsewhere]) == ["Jobs ran on 2 different machines."]


def test_costs_add_up() -> None:
    description = study()
    costs = synthetic.costs_of(description)
    cost = summary_of(description)["cost"]
    assert cost["wall_s"] == pytest.approx(sum(record["wall_s"] for record in costs))
    training = next(row for row in cost["rows"] if (row["stage"], row["variant"]) == ("train_agent", "fsq"))
    assert training["num_jobs"] == 12 and training["num_updates"]["tokenizer"] == 12 * 119_000


def test_a_contradictory_study_is_refused() -> None:
    with pytest.raises(ConfigError, match="key baseline: found 'dreamer', allowed: iris, fsq, parallel"):
        study(baseline="dreamer")
    with pytest.raises(ConfigError, match="key variants"):
        study(variants=(VariantDescription("iris"), VariantDescription("iris")))
