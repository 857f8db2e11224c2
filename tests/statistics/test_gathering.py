"""What is known beside scores, gathered from several sources: named, counted once, and measured alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from irisflow.statistics.comparison import compared
from irisflow.statistics.gathering import changes_of, gathered, written_changes_of
from irisflow.statistics.records import Job, Records, RunRecords, joined
from irisflow.statistics.scores import Run
from irisflow.statistics.sources import Source
from irisflow.statistics.stretches import RunStretches
from irisflow.statistics.world_model import Measured, table

PONG, ALIEN = Run("iris", "Pong", 0), Run("iris", "Alien", 0)
FSQ, FSQ_ALIEN = Run("fsq", "Pong", 0), Run("fsq", "Alien", 0)


def job(
    stage: str, run: Run | None, *inputs: str, folder: str = "", game: str = "Pong", wall_s: float = 1.0
) -> Job:
    """Return what a job wrote into its folder, which is named by the stage and the run."""
    place = folder or "/".join(map(str, (stage, *(run or (game,)))))
    cost: dict[str, Any] = {"stage": stage, "variant": None, "game": game, "seed": 0, "wall_s": wall_s}
    cost |= run._asdict() if run else {}
    return Job(Path(place), place, cost, {"inputs": dict.fromkeys(inputs, "0")})


def measured(run: Run, *, value: float = 1.0) -> pd.DataFrame:
    """Return one measurement of a run."""
    return table([Measured(*run, 100, "psnr", "", None, None, None, value, 1)])


def records(*runs: Run, on: str = "episodes", value: float = 1.0, wall_s: float = 1.0) -> Records:
    """Return what is known of runs that were trained and measured."""
    return joined(
        [
            Records(
                (job("train_agent", run, wall_s=wall_s),),
                {run: RunRecords(timings=[{"epoch": 1}], measured_on=on, film=Path(f"{on}/film"))},
                measured(run, value=value),
            )
            for run in runs
        ]
    )


def source(label: str, *runs: Run, **known: Any) -> Source:
    """Return a source with a score of each run."""
    return Source(label, means=dict.fromkeys(runs, 1.0), **known)


def texts(remarks: list[dict[str, str]]) -> list[str]:
    """Return what is said."""
    return [remark["text"] for remark in remarks]


def test_records_have_the_names_that_they_are_told() -> None:
    told = records(PONG, FSQ).renamed(lambda name: f"mine: {name}")
    assert [found.run for found in told.jobs] == [Run("mine: iris", "Pong", 0), Run("mine: fsq", "Pong", 0)]
    assert set(told.runs) == set(told.each("film")) == {found.run for found in told.jobs}
    assert set(told.world_model["variant"]) == {"mine: iris", "mine: fsq"}


def test_runs_bring_the_jobs_that_they_stand_on_and_no_others() -> None:
    jobs = (
        job("collect", None, folder="data/pong"),
        job("collect", None, folder="data/alien"),
        job("pretrain_tokenizer", None, "data/pong/episodes", folder="tokenizer/pong"),
        job("train_agent", PONG, "tokenizer/pong/weights"),
        job("train_agent", ALIEN, "data/alien/episodes"),
        job("play_random", None, folder="random/alien", game="Alien"),
        job("play_random", None, folder="random/pong"),
    )
    found = Records(jobs).of({PONG}, {"Pong"})
    assert [str(one.folder) for one in found.jobs] == [
        "data/pong", "tokenizer/pong", "train_agent/iris/Pong/0", "random/pong",
    ]  # fmt: skip


def test_of_several_the_first_that_knows_something_of_a_run_tells_it() -> None:
    shared = job("collect", None, folder="data/pong")
    first = Records((shared, job("train_agent", PONG)), {PONG: RunRecords(metrics=[{"epoch": 1}])})
    second = records(PONG, FSQ, value=2.0, wall_s=9.0)
    third = Records((shared, job("evaluate", PONG)), {PONG: RunRecords(film=Path("third"))}, measured(PONG))
    found = joined([first, second, third])
    assert [(one.cost["stage"], one.run) for one in found.jobs] == [
        ("collect", None), ("train_agent", PONG), ("train_agent", FSQ), ("evaluate", PONG),
    ]  # fmt: skip
    assert found.jobs[1].cost["wall_s"] == 1
    assert found.runs[PONG] == RunRecords(
        [{"epoch": 1}], [{"epoch": 1}], None, "episodes", None, Path("episodes/film")
    )
    assert found.world_model["value"].tolist() == [2.0, 2.0]


def test_sums_over_stretches_are_those_of_the_measurements_that_are_shown() -> None:
    sums = RunStretches(100, 1, 1, {}, {})
    without = records(PONG)
    with_sums = Records((), {PONG: replace(without.runs[PONG], stretches=sums)}, measured(PONG))
    scores_only = Records((), {PONG: RunRecords(metrics=[{"epoch": 1}])})
    assert joined([with_sums, without]).runs[PONG].stretches is sums
    assert joined([scores_only, with_sums]).runs[PONG].stretches is sums
    assert joined([without, with_sums]).runs[PONG].stretches is None, "these are of the second's measurements"
    assert with_sums.measured_of(()).runs[PONG].stretches is None


def test_a_shared_job_that_was_done_again_counts_again() -> None:
    first, again = (job("collect", None, folder="data/pong", wall_s=seconds) for seconds in (1, 2))
    assert len(joined([Records((first,)), Records((again,))]).jobs) == 2


def test_the_baselines_episodes_decide_which_world_models_are_shown() -> None:
    sources = [
        source("a", FSQ, ALIEN, records=records(FSQ, ALIEN, on="a")),
        source("b", PONG, records=records(PONG, on="b")),
    ]
    found, remarks = gathered(sources, {PONG, FSQ, ALIEN}, baseline="fsq")
    assert set(found.each("measured_on")) == set(found.each("film")) == {FSQ, ALIEN}
    assert found.each("timings").keys() == {PONG, FSQ, ALIEN} and len(found.jobs) == 3
    assert texts(remarks) == [
        "b: its world models (iris; Pong) were measured on other held-out episodes, or from other moments of them, than"
        " those that are shown: their measurements are left out.",
        "No game has the world models of all of fsq, iris: means are those of one of them.",
    ]
    sources = [sources[0], source("b", PONG, ALIEN, records=records(PONG, on="b"))]
    found, remarks = gathered(sources, {PONG, FSQ, ALIEN}, baseline="nobody's")
    assert set(found.each("measured_on")) == {FSQ, ALIEN}


def test_where_one_source_is_left_out_another_measurement_of_the_same_run_is_taken() -> None:
    sources = [
        source("a", PONG, records=records(PONG, on="a", value=1.0)),
        source("b", PONG, FSQ, records=records(PONG, FSQ, on="b", value=2.0)),
    ]
    found, remarks = gathered(sources, {PONG, FSQ}, baseline="fsq")
    assert found.world_model["value"].tolist() == [2.0, 2.0] and texts(remarks) == []
    assert found.each("film") == dict.fromkeys((PONG, FSQ), Path("b/film"))


def test_what_is_not_known_of_some_is_said() -> None:
    known = records(PONG, ALIEN, FSQ)
    unmeasured = Records((job("train_agent", Run("gru", "Pong", 0)),))
    runs = {PONG, ALIEN, FSQ, FSQ_ALIEN, Run("theirs", "Pong", 0), Run("gru", "Pong", 0)}
    _, remarks = gathered(
        [source("a", *runs, records=known), source("b", records=unmeasured)], runs, baseline="iris"
    )
    assert texts(remarks) == [
        "Only the scores of theirs are known here: costs, losses, pictures and world models are those of the others.",
        "Costs and losses of 1 of the 2 runs of fsq are not known: its wall-clock is that of the rest.",
        "The world models of gru were not measured.",
        "Means of world models are over the games in which all were measured (Pong).",
    ]


def test_configurations_are_told_against_the_comparisons_baseline() -> None:
    base = {"common.seed": "0", "lr": "1", "quantizer": "vq", "layers": "2"}
    described = [{"name": "iris", "changes": []}, {"name": "fsq", "changes": [["quantizer", "vq", "fsq"]]}]
    first = source(
        "a",
        study={"baseline": "iris", "variants": described},
        configurations={"iris": base, "fsq": base | {"quantizer": "fsq"}},
    )
    other = {"common.seed": "7", "lr": "2", "quantizer": "vq"}
    second = source("b", configurations={"gru": other, "iris": base | {"lr": "3", "newer": "1"}})
    sources = [first, second]
    assert changes_of(sources, "fsq", "iris") == (("quantizer", "vq", "fsq"),)
    assert changes_of(sources, "gru", "iris") == (("layers", "2", None), ("lr", "1", "2"))
    assert changes_of(sources, "gru", "fsq") == (
        ("layers", "2", None),
        ("lr", "1", "2"),
        ("quantizer", "fsq", "vq"),
    )
    assert changes_of(sources, "theirs", "iris") == changes_of(sources, "iris", "theirs") == ()


def test_runs_of_one_name_that_were_made_otherwise_are_told_apart() -> None:
    slow, fast = {"common.seed": "0", "lr": "1"}, {"common.seed": "1", "lr": "2", "newer": "0"}
    runs = [Run("iris", "Pong", seed) for seed in range(4)]
    made = (slow, fast, slow | {"common.seed": "5"})
    sources = [
        source(label, run, configurations={"iris": configuration})
        for label, run, configuration in zip("abc", runs, made, strict=False)
    ]
    found = compared([*sources, source("csv", runs[3])], reps=2)
    assert found.study.own_seeds == {"a: iris": (0, 2), "b: iris": (1,), "csv: iris": (3,)}
    changes = {variant.name: variant.changes for variant in found.study.variants}
    assert changes["b: iris"] == (("lr", "1", "2"), ("newer", None, "0"))
    assert compared([sources[0], sources[2], source("csv", runs[3])], reps=2).study.variant_names == ("iris",)


def test_what_a_study_writes_counts_only_against_its_own_baseline() -> None:
    described = [{"name": "fsq", "written_changes": [["quantizer", "vq", "fsq"]]}, {"name": "iris"}]
    study = source("s", PONG, FSQ, study={"baseline": "iris", "variants": described})
    assert written_changes_of([study], "fsq", "iris") == (("quantizer", "vq", "fsq"),)
    assert written_changes_of([study], "fsq", "other") == written_changes_of([study], "iris", "iris") == ()
