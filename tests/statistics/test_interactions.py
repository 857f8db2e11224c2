"""Combinations of two changes: recognised by what they write, and measured against planted effects."""

from typing import Any

import numpy as np
import pytest

from irisflow.params import Choice
from irisflow.statistics import aggregate
from irisflow.statistics.configuration import Change, changed_keys
from irisflow.statistics.interactions import combined, contrast, interaction_summary
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.written import written

FSQ = (("tokenizer.quantizer.name", "vq", "fsq"), ("tokenizer.quantizer.levels", None, "[]"))
LFQ = (("tokenizer.quantizer.name", "vq", "lfq"),)
RETNET = (("world_model.backbone.name", "gpt", "retnet"),)
WRITES: dict[str, tuple[Change, ...]] = {
    "iris": (), "fsq": FSQ, "lfq": LFQ, "retnet": RETNET, "fsq_retnet": FSQ + RETNET, "lfq_retnet": LFQ + RETNET,
}  # fmt: skip
AXES = {"fsq": "quantizer", "lfq": "quantizer", "retnet": "backbone", "fsq_retnet": "both"}


def study(writes: dict[str, tuple[Change, ...]], **changes: Any) -> StudyDescription:
    """Return a study of these variants, by what each writes otherwise than the baseline."""
    variants = [
        VariantDescription(name, axis=AXES.get(name, name), written_changes=found)
        for name, found in writes.items()
    ]
    return StudyDescription(
        name="synthetic",
        title="Synthetic",
        scale="quick",
        scale_note="quick",
        games=("Pong", "Breakout"),
        variants=tuple(variants),
        baseline="iris",
        seeds=(0, 1, 2),
        num_evaluation_episodes=1,
        **changes,
    )


def only(*names: str, **more: tuple[Change, ...]) -> dict[str, tuple[Change, ...]]:
    return {name: WRITES[name] for name in ("iris", *names)} | more


def test_a_variant_that_makes_two_changes_of_others_and_no_more_combines_them() -> None:
    assert combined(study(WRITES)) == {"fsq_retnet": ("fsq", "retnet"), "lfq_retnet": ("lfq", "retnet")}
    named = (("world_model.name", "iris", "retnet_fsq"), ("tokenizer.name", "iris", "mine"))
    assert combined(study(only("fsq", "retnet", both=FSQ + RETNET + named))) == {"both": ("fsq", "retnet")}


@pytest.mark.parametrize(
    "both",
    [
        pytest.param((*FSQ, *RETNET, ("tokenizer.vocab_size", "512", "64")), id="a third change"),
        pytest.param((*FSQ, ("world_model.backbone.name", "gpt", "gru")), id="another value"),
        pytest.param((FSQ[0], *RETNET), id="half of a change"),
        pytest.param(FSQ, id="one of them again"),
    ],
)
def test_another_variant_is_no_combination(both: tuple[Change, ...]) -> None:
    assert combined(study(only("fsq", "retnet", both=both))) == {}


def test_changes_of_one_key_make_no_grid_and_a_combination_is_no_part_of_another() -> None:
    raw, scaled = ("reward", "sign", "raw"), ("returns", "raw", "scaled")
    assert combined(study(only(scaled=(scaled,), raw_and_scaled=(raw, scaled)))) == {}
    masked = ("mask", "no", "yes")
    writes = only(
        raw=(raw,), scaled=(scaled,), masked=(masked,), two=(raw, scaled), all=(raw, scaled, masked)
    )
    assert combined(study(writes)) == {"two": ("raw", "scaled")}


def test_the_grid_has_the_axes_and_what_was_not_run_is_absent() -> None:
    names = ("fsq", "lfq", "retnet", "fsq_retnet")
    scores = {name: np.zeros((3, 2)) for name in ("iris", *names)}
    (grid,) = interaction_summary(study(only(*names)), scores)
    assert (grid["axes"], grid["rows"], grid["columns"]) == (
        ["quantizer", "backbone"], ["iris", "fsq"], ["iris", "retnet"],
    )  # fmt: skip
    assert grid["cells"] == [{"row": "fsq", "column": "retnet", "variant": "fsq_retnet"}]
    assert interaction_summary(study(only(*names[:3])), scores) == []
    assert interaction_summary(study(only(*names)), {name: np.empty((3, 0)) for name in scores}) == []


def arms(interaction: float, *, seed: int, num_runs: int = 10, num_games: int = 8) -> dict[str, np.ndarray]:
    """Return runs whose means add up but for `interaction`, with a spread of .1 between seeds."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.8, num_games)
    means = {"iris": 0.0, "fsq": 0.3, "retnet": -0.2, "fsq_retnet": 0.1 + interaction}
    return {name: base + mean + rng.normal(0, 0.1, (num_runs, num_games)) for name, mean in means.items()}


def found(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    (grid,) = interaction_summary(study(only("fsq", "retnet", "fsq_retnet"), bootstrap_reps=400), scores)
    (record,) = grid["contrasts"]
    return record


def test_a_planted_interaction_is_measured_and_none_is_not() -> None:
    planted, none = found(arms(0.25, seed=0)), found(arms(0.0, seed=0))
    for measure in ("iqm", "mean"):
        assert planted[measure]["low"] > 0.1 and planted[measure]["value"] == pytest.approx(0.25, abs=0.08)
        assert none[measure]["low"] < 0 < none[measure]["high"]
    assert (planted["least_runs"], planted["num_games"]) == (10, 8)


def test_the_intervals_of_effects_that_add_up_hold_zero_about_as_often_as_they_say() -> None:
    held = [
        record["low"] <= 0 <= record["high"]
        for record in (found(arms(0, seed=seed))["mean"] for seed in range(60))
    ]
    assert sum(held) >= 52


def test_the_contrast_is_the_one_of_the_four_aggregates_and_symmetric() -> None:
    scores = arms(0.1, seed=3)
    record = found(scores)
    value = {name: aggregate.iqm(found) for name, found in scores.items()}
    expected = value["fsq_retnet"] - value["fsq"] - value["retnet"] + value["iris"]
    assert record["iqm"]["value"] == pytest.approx(expected, abs=1e-12)
    turned = dict(reversed(only("fsq", "retnet", "fsq_retnet").items()))
    description = study(turned, bootstrap_reps=400)
    (grid,) = interaction_summary(description, scores)
    assert grid["contrasts"][0]["iqm"] == record["iqm"]


def test_one_run_of_an_arm_gives_no_interval() -> None:
    scores = list(arms(0.1, seed=3, num_runs=1).values())
    estimate = contrast(scores[::-1], aggregate.sample_iqms, names=("a", "b", "c", "d"), reps=50)
    assert estimate.low is None and estimate.high is None


def test_the_variants_that_are_here_make_a_grid_and_what_follows_from_a_key_is_no_change() -> None:
    names = ("iris", "backbone_retnet", "prediction_parallel", "prediction_parallel_retnet", "tokens_64")
    trees = {name: written(Choice("smoke", variant=name)) for name in names}
    writes = {name: changed_keys(trees["iris"], tree) for name, tree in trees.items()}
    assert combined(study(writes)) == {
        "prediction_parallel_retnet": ("backbone_retnet", "prediction_parallel")
    }
    assert [key for key, _, _ in writes["tokens_64"]] == [
        "tokenizer.encoder.config.ch_mult",
        "tokenizer.name",
    ]
