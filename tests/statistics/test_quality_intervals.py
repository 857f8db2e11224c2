"""Intervals of world-model measurements: their coverage, what they are over, and the file that they are made of."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from irisflow.errors import DataError
from irisflow.statistics.quality_intervals import interval_records, read_intervals, resampled
from irisflow.statistics.scores import Run
from irisflow.statistics.stretches import RunStretches, read_stretches
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.world_model import Measured, table, world_model_summary

KEY = ("open_psnr", "greedy")
STUDY = StudyDescription(
    name="made-up", title="", scale="quick", scale_note="", games=("Pong", "Alien"),
    variants=(VariantDescription("iris"), VariantDescription("fsq")), baseline="iris", seeds=(0, 1, 2),
    num_evaluation_episodes=1, bootstrap_reps=300,
)  # fmt: skip


def run_of(values: np.ndarray, weights: np.ndarray | None = None, *, env_step: int = 100) -> RunStretches:
    """Return a run with these means of stretches, a horizon a column."""
    weight = np.ones_like(values) if weights is None else weights
    sums = (values * weight).astype(np.float32)
    return RunStretches(env_step, 2, 1, {KEY: sums}, {KEY[0]: weight.astype(np.float32)})


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def ends(runs: Sequence[RunStretches], name: str = "Pong", reps: int = 400) -> tuple[float, float]:
    """Return the ends of the interval one frame ahead."""
    low, high = np.percentile(resampled(runs, name=name, reps=reps)[KEY][:, 0], (2.5, 97.5))
    return float(low), float(high)


def made(
    draw: int, *, seeds: int, of_seeds: float, of_stretches: float, stretches: int = 32
) -> list[RunStretches]:
    """Return runs whose true mean is 0: what a seed and what a start does, and what is left."""
    rng = np.random.default_rng(draw)
    values = of_seeds * rng.normal(size=(seeds, 1)) + of_stretches * rng.normal(size=stretches)
    return [run_of(row[:, None]) for row in values + rng.normal(size=(seeds, stretches))]


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_stretches"), [(10, 1.0, 1.0), (10, 0.3, 1.0), (10, 0.0, 1.0), (20, 1.0, 0.0)]
)
def test_the_interval_covers_the_mean_as_often_as_it_says(
    seeds: int, of_seeds: float, of_stretches: float
) -> None:
    covered = [
        low <= 0 <= high
        for draw in range(400)
        for low, high in [
            ends(made(draw, seeds=seeds, of_seeds=of_seeds, of_stretches=of_stretches), str(draw))
        ]
    ]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_interval_of_one_run_covers_what_this_run_would_get_and_no_other_seed() -> None:
    own, others = [], []
    for draw in range(400):
        shift = float(noise(draw, 1)[0])
        low, high = ends([run_of(shift + noise(1000 + draw, 32, 1))], str(draw))
        own.append(low <= shift <= high)
        others.append(low <= 0 <= high)
    assert 0.92 <= np.mean(own) <= 0.98
    assert np.mean(others) < 0.5


def test_starts_that_are_hard_for_all_seeds_are_not_taken_for_starts_of_their_own() -> None:
    """Ten runs from the same 32 starts tell of 32 starts, not of 320."""
    rows = [made(draw, seeds=10, of_seeds=0.0, of_stretches=2.0) for draw in range(100)]
    separate = []
    for draw, runs in enumerate(rows):
        values = [resampled([run], name=f"{draw}, {place}", reps=300)[KEY] for place, run in enumerate(runs)]
        low, high = np.percentile(np.mean(values, axis=0), (2.5, 97.5))
        separate.append(low <= 0 <= high)
    assert np.mean(separate) < 0.6, "what drawing stretches for each run by itself would give"
    assert np.mean([low <= 0 <= high for low, high in (ends(runs) for runs in rows)]) > 0.9


def test_a_resample_is_the_mean_over_drawn_runs_of_the_weighted_means_over_drawn_stretches() -> None:
    weights = np.random.default_rng(1).integers(0, 3, (3, 8, 4)).astype(float)
    runs = [run_of(noise(seed, 8, 4), weights[seed]) for seed in range(3)]
    found = resampled(runs, name="Pong", reps=50)[KEY]
    rng = np.random.default_rng(zlib.crc32(b"Pong"))
    of_stretches = rng.multinomial(8, [1 / 8] * 8, size=50)
    of_runs = rng.multinomial(3, [1 / 3] * 3, size=50)
    for drawn_stretches, drawn_runs, row in zip(of_stretches, of_runs, found, strict=True):
        for horizon, value in enumerate(row):
            means = []
            for run, times in zip(runs, drawn_runs, strict=True):
                total, weight = (
                    float((drawn_stretches * array[:, horizon]).sum())
                    for array in (run.sums[KEY], run.weights[KEY[0]])
                )
                means += [total / weight] * times if weight else []
            assert value == pytest.approx(np.mean(means), rel=1e-4, abs=1e-5)


def stretches_of(
    variants: Sequence[str] = ("iris", "fsq"), seeds: Sequence[int] = (0, 1, 2)
) -> dict[Run, RunStretches]:
    return {
        Run(variant, game, seed): run_of(noise(100 * place + seed, 16, 3) + seed)
        for place, (variant, game) in enumerate((v, g) for v in variants for g in STUDY.games)
        for seed in seeds
    }


def test_records_are_of_each_game_and_of_the_mean_over_games_and_do_not_depend_on_other_variants() -> None:
    found = interval_records(STUDY, stretches_of())
    assert [(each["variant"], each["games"]) for each in found] == [
        (variant, games) for variant in ("fsq", "iris") for games in (["Pong"], ["Alien"], ["Pong", "Alien"])
    ]
    alone = interval_records(replace(STUDY, variants=STUDY.variants[:1]), stretches_of(("iris",)))
    assert alone == found[3:]
    turned = replace(STUDY, baseline="fsq")
    assert interval_records(turned, stretches_of()) == found
    assert interval_records(STUDY, dict(reversed(stretches_of().items()))) == found
    widths = [np.subtract(each["high"], each["low"]).mean() for each in found[:3]]
    assert widths[2] < 0.85 * min(widths[:2]), "a mean over games is known better"
    for each in found:
        assert len(each["low"]) == 3 and all(np.less(each["low"], each["high"]))
        assert (each["num_seeds"], each["num_stretches"], each["num_episodes"]) == (3, [16] * 3, 2)
    assert [each["num_runs"] for each in found[:3]] == [3, 3, 6]


def test_the_ends_hold_the_number_that_is_drawn() -> None:
    stretches = stretches_of()
    for record in interval_records(STUDY, stretches):
        runs = [
            own
            for run, own in stretches.items()
            if run.variant == record["variant"] and run.game in record["games"]
        ]
        mean = np.mean([run.sums[KEY].mean(axis=0) for run in runs], axis=0)
        assert (np.array(record["low"]) < mean).all() and (mean < np.array(record["high"])).all()


def test_a_horizon_with_less_than_two_stretches_has_no_interval() -> None:
    weights = np.ones((16, 3))
    weights[1:, 1], weights[:, 2] = 0, 0
    runs = {Run("iris", "Pong", seed): run_of(noise(seed, 16, 3), weights) for seed in range(2)}
    (record,) = interval_records(STUDY, runs)
    assert record["num_stretches"] == [16, 1, 0]
    assert [low is None for low in record["low"]] == [False, True, True]
    weights[:3, 2] = 1
    (record,) = interval_records(STUDY, {run: run_of(noise(0, 16, 3), weights) for run in runs})
    assert record["low"][2] is not None, "some resamples draw none of the three stretches, the others count"


def test_runs_that_were_not_measured_alike_have_no_interval() -> None:
    runs = {Run("iris", "Pong", 0): run_of(noise(0, 16, 3))}
    assert interval_records(STUDY, runs | {Run("iris", "Pong", 1): run_of(noise(1, 8, 3))}) == []
    assert interval_records(STUDY, runs | {Run("iris", "Pong", 1): run_of(noise(1, 16, 3), env_step=7)}) == []
    assert len(interval_records(STUDY, runs)) == 1 and interval_records(STUDY, {}) == []


def test_an_interval_without_all_the_runs_of_its_mean_is_not_told() -> None:
    rows = table(
        Measured("iris", "Pong", seed, 100, "open_psnr", "greedy", 1, 1, None, 30.0, 10) for seed in (0, 1)
    )
    runs = {Run("iris", "Pong", seed): run_of(noise(seed, 16, 1)) for seed in (0, 1)}
    whole = world_model_summary(STUDY, rows, {}, interval_records(STUDY, runs))
    assert [each["num_runs"] for each in whole["intervals"]] == [2]
    for some in (
        dict(list(runs.items())[:1]),
        {run: run_of(noise(0, 16, 1), env_step=50) for run in runs},
        {},
    ):
        assert world_model_summary(STUDY, rows, {}, interval_records(STUDY, some))["intervals"] == []


TENSORS = {
    "env_step": np.array([100]), "num_episodes": np.array([2]), "context": np.array([1]),
    "sum/psnr": np.full(4, 60, np.float32), "weight/psnr": np.full(4, 2, np.float32),
    "sum/open_psnr/greedy": np.ones((4, 3), np.float32), "weight/open_psnr": np.ones((4, 3), np.float32),
}  # fmt: skip


def file_of(path: Path, **changes: Any) -> Path:
    """Write the tensors, some of them changed or, where that is None, left out; `__` stands for `/`."""
    changed = {name.replace("__", "/"): value for name, value in changes.items()}
    kept = {name: value for name, value in {**TENSORS, **changed}.items() if value is not None}
    path.write_bytes(save(kept))
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_stretches(file_of(tmp_path / "stretches.safetensors"))
    assert (found.env_step, found.num_episodes, found.context, found.num_stretches) == (100, 2, 1, 4)
    assert found.sums["psnr", ""].tolist() == [[60]] * 4 and found.sums[KEY].shape == (4, 3)
    files = {Run("iris", "Pong", seed): tmp_path / "stretches.safetensors" for seed in (0, 1)}
    ahead, frames = sorted(read_intervals(STUDY, files), key=lambda each: str(each["metric"]))
    assert (frames["metric"], frames["context"], frames["low"], frames["high"]) == ("psnr", None, [30], [30])
    assert (ahead["metric"], ahead["context"], ahead["num_stretches"]) == ("open_psnr", 1, [4, 4, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_step": None}, "tensor env_step: found nothing, allowed: one int64"),
        ({"num_episodes": np.array([2.0])}, "tensor num_episodes: found float64"),
        ({"context": None}, "tensor context: found nothing, allowed: the context of sum/open_psnr/greedy"),
        ({"weight__psnr": None}, "tensor weight/psnr: found nothing, allowed: the weights of sum/psnr"),
        ({"sum__psnr": np.ones(3, np.float32)}, r"tensor sum/psnr: found float32 \(3,\)"),
        ({"sum__psnr": np.ones(4)}, r"tensor sum/psnr: found float64 \(4,\)"),
        ({"sum__psnr": np.full(4, np.nan, np.float32)}, "tensor sum/psnr: found a number that is not finite"),
        ({"weight__psnr": np.full(4, -1, np.float32)}, "tensor weight/psnr: found -1, allowed: 0 or more"),
        ({"weight__ssim": np.ones(5, np.float32)}, r"tensor weight/...: found \[4, 5\] stretches"),
        ({"mean__psnr": np.ones(4, np.float32)}, "tensor mean/psnr: found this name, allowed: env_step"),
        (dict.fromkeys(name.replace("/", "__") for name in TENSORS if "/" in name), "found no weights"),
    ],
)
def test_a_damaged_file_is_refused_with_its_tensor(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = file_of(tmp_path / "stretches.safetensors", **changes)
    with pytest.raises(DataError, match=message) as error:
        read_stretches(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert "measure_world_model" in str(error.value)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda _: b"nonsense", lambda _: b""])
def test_a_file_that_is_no_safetensors_file_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = file_of(tmp_path / "stretches.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="cannot be read") as error:
        read_stretches(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
