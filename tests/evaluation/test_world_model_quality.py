"""The measurements of tokenizer and world model: each against its definition, and each with a control that must fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from tiny_catch import CPU, WINDOW, TinyCatch, recorded
from torch import Tensor

from irisflow.evaluation.classification import (
    average_precision,
    calibration,
    confusion,
    macro_f1,
    precisions,
    precisions_at_recalls,
    recalls,
)
from irisflow.evaluation.codebook import codebook_use, most_frequent
from irisflow.evaluation.held_out import held_out, segments, spread, windows
from irisflow.evaluation.image_quality import psnr, ssim
from irisflow.evaluation.open_loop import imagined
from irisflow.evaluation.world_model_quality import (
    Examination,
    Measurement,
    end_quality,
    examine,
    film,
    head_quality,
    measure,
    open_loop,
    open_loop_quality,
    tokenizer_quality,
    yardsticks,
)
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.world_model.world_model import WorldModel


@pytest.fixture(scope="module")
def examined(tiny: TinyCatch) -> Examination:
    return before(tiny, tiny.tokenizer, tiny.world_model)


def before(tiny: TinyCatch, tokenizer: Tokenizer, world_model: WorldModel) -> Examination:
    """Return models before the held-out episodes."""
    held_to = yardsticks(tiny.episodes, device=CPU)
    return examine(
        tokenizer, world_model, tiny.episodes, held_to, window=WINDOW, time_limit_is_end=True, device=CPU
    )


def ahead(examined: Examination, *, context: int = 1, num_starts: int = 48) -> list[Measurement]:
    loop = open_loop(examined, context=context, num_starts=num_starts, num_samples=2, generator=generator())
    assert loop is not None
    return open_loop_quality(loop)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def values(found: list[Measurement], metric: str, mode: str = "") -> list[float]:
    """Return a metric's values by horizon."""
    return [each.value for each in found if (each.metric, each.mode) == (metric, mode)]


def images(seed: int) -> Tensor:
    random = np.random.default_rng(seed).integers(0, 256, (4, 3, 16, 12), dtype=np.uint8)
    return torch.from_numpy(random)


def test_psnr_is_that_of_its_definition_and_capped_for_equal_images() -> None:
    first, second = images(0), images(0)
    second[1, 0, 0, 0] = 255 - second[1, 0, 0, 0]
    second[2] = 255 - first[2]
    error = (first.double() - second.double()).square().flatten(1).mean(dim=1)
    expected = (10 * torch.log10(255**2 / error)).clamp(max=60)
    assert psnr(first, second).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert psnr(first, second)[0] == 60


def test_ssim_is_that_of_its_definition() -> None:
    first, second = images(1), images(2)
    second[1] = first[1]
    second[2] = (0.7 * first[2].float() + 30).byte()
    expected = [defined_ssim(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True)]
    assert ssim(first, second).tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[1] == 1 and expected[0] < 0.2 < expected[2] < 1


def defined_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return SSIM window by window."""
    x, y = (sliding_window_view(a.astype(float), (7, 7), (1, 2)).reshape(-1, 49) for a in (first, second))
    covariance = ((x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))).sum(1) / 48
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * x.mean(1) * y.mean(1) + c1) * (2 * covariance + c2)
    bottom = (x.mean(1) ** 2 + y.mean(1) ** 2 + c1) * (x.var(1, ddof=1) + y.var(1, ddof=1) + c2)
    return float((top / bottom).mean())


def test_recall_precision_and_f1_of_a_known_table() -> None:
    real = torch.tensor([0, 0, 1, 1, 1, 1])
    counts = confusion(torch.tensor([0, 1, 1, 1, 1, 0]), real, num_classes=3)
    assert counts.tolist() == [[1, 1, 0], [1, 3, 0], [0, 0, 0]]
    assert recalls(counts)[:2].tolist() == precisions(counts)[:2].tolist() == [0.5, 0.75]
    assert recalls(counts)[2].isnan() and precisions(counts)[2].isnan()
    assert macro_f1(counts) == pytest.approx((0.5 + 0.75) / 2), "a class that never occurs does not count"


def test_a_constant_no_is_accurate_but_has_no_recall_and_no_precision_above_the_base_rate() -> None:
    is_end = torch.arange(100) % 20 == 0
    counts = confusion(torch.zeros(100, dtype=torch.long), is_end.long(), num_classes=2)
    assert counts.diagonal().sum() == 95 and recalls(counts).tolist() == [1, 0]
    assert average_precision(torch.zeros(100), is_end) == pytest.approx(0.05)
    assert average_precision(is_end.float(), is_end) == 1
    assert average_precision(torch.tensor([4.0, 3, 2, 1]), torch.tensor([True, False, True, False])) == (
        pytest.approx((1 + 2 / 3) / 2)
    )


def test_precision_at_each_recall_is_that_at_the_highest_threshold_which_reaches_it() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    is_end = torch.tensor([True, False, True, False, False, True])
    found, counts = precisions_at_recalls(scores, is_end, [10, 33, 34, 66, 67, 100])
    assert found.tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 2, 1 / 2])
    assert counts.tolist() == [1, 1, 3, 3, 6, 6]
    tied, _ = precisions_at_recalls(torch.tensor([0.5, 0.5, 0.5, 0.1]), is_end[:4], [10, 100])
    assert tied.tolist() == pytest.approx([2 / 3, 2 / 3]), "a threshold cannot tell equal scores apart"


def test_calibration_of_a_known_table() -> None:
    probabilities = torch.tensor([0.0, 0.02, 0.01, 0.2, 0.1, 0.8, 0.6, 1.0], dtype=torch.float64)
    is_end = torch.tensor([False, False, True, False, False, True, False, True])
    found = calibration(probabilities, is_end, (0.01, 0.03, 0.1, 0.3))
    assert found.counts.tolist() == [1, 2, 0, 2, 3]
    assert found.predicted.tolist() == pytest.approx([0, 0.015, np.nan, 0.15, 0.8], nan_ok=True)
    assert found.occurred.tolist() == pytest.approx([0, 0.5, np.nan, 0, 2 / 3], nan_ok=True)
    assert found.error == pytest.approx((2 * 0.485 + 2 * 0.15 + 3 * (0.8 - 2 / 3)) / 8)


IS_END = torch.arange(1000) % 20 == 0


def told_of_ends(probabilities: Tensor, is_end: Tensor = IS_END) -> dict[str, dict[int | None, float]]:
    """Return metric -> class -> value."""
    found: dict[str, dict[int | None, float]] = {}
    for each in end_quality(probabilities, is_end):
        found.setdefault(each.metric, {})[each.of_class] = each.value
    return found


def test_a_perfect_end_head_is_precise_at_every_recall_and_calibrated() -> None:
    told = told_of_ends(IS_END.float())
    assert list(told["end_precision"]) == list(range(10, 101, 10))
    assert set(told["end_precision"].values()) == {1}
    assert told["end_predicted"] == told["end_occurred"] == {0: 0, 4: 1}
    assert told["end_calibration_error"] == {None: 0}


def test_an_end_head_without_skill_has_the_base_rate_as_precision() -> None:
    random = told_of_ends(torch.rand(1000, generator=generator()))
    assert max(random["end_precision"].values()) < 0.25
    assert random["end_precision"][100] == pytest.approx(0.05, abs=0.005)
    assert random["end_calibration_error"][None] == pytest.approx(0.45, abs=0.02)
    base = told_of_ends(torch.full((1000,), 0.05))
    assert list(base["end_precision"].values()) == pytest.approx([0.05] * 10)
    assert base["end_calibration_error"][None] == pytest.approx(0, abs=1e-6), "calibrated, and of no use"


def test_a_constant_no_is_as_precise_as_the_base_rate_and_wrong_by_it() -> None:
    told = told_of_ends(torch.zeros(1000))
    assert list(told["end_precision"].values()) == pytest.approx([0.05] * 10)
    assert told["end_predicted"] == {0: 0} and told["end_occurred"] == {0: pytest.approx(0.05)}
    assert told["end_calibration_error"][None] == pytest.approx(0.05)


def test_a_head_that_promises_too_many_ends_is_off_the_diagonal() -> None:
    told = told_of_ends(torch.where(IS_END, 0.99, 0.5))
    assert set(told["end_precision"].values()) == {1}, "the order is perfect"
    assert told["end_predicted"][4] > 0.5 > told["end_occurred"][4] == pytest.approx(0.05)
    assert told["end_calibration_error"][None] > 0.4


def test_where_nothing_ended_there_is_no_recall_to_reach() -> None:
    told = told_of_ends(torch.full((50,), 0.02), torch.zeros(50, dtype=torch.bool))
    assert set(told) == {"end_base_rate", "end_predicted", "end_occurred", "end_calibration_error"}
    assert told["end_occurred"] == {1: 0} and told["end_calibration_error"][None] == pytest.approx(0.02)


def test_perplexity_and_usage_of_known_codes() -> None:
    assert codebook_use(torch.arange(8).repeat(5), vocab_size=16) == (pytest.approx(8), 0.5)
    assert codebook_use(torch.zeros(9, dtype=torch.long), vocab_size=16) == (1, 1 / 16)


def test_the_most_frequent_codes_of_a_known_distribution() -> None:
    tokens = torch.tensor([[7, 7, 7, 7], [2, 2, 2, 5], [5, 0, 7, 7]])
    assert most_frequent(tokens, vocab_size=10) == pytest.approx({1: 6 / 12, 2: 9 / 12, 4: 1, 8: 1, 10: 1})
    assert list(most_frequent(tokens, vocab_size=8)) == [1, 2, 4, 8]
    assert most_frequent(torch.arange(8).repeat(5), vocab_size=8) == {1: 1 / 8, 2: 2 / 8, 4: 4 / 8, 8: 1}
    assert set(most_frequent(torch.full((3, 4), 6), vocab_size=512).values()) == {1}, "all tokens one code"


def test_segments_start_where_context_and_future_exist_and_never_cross_an_episode(
    examined: Examination,
) -> None:
    cut = segments(examined.recorded, context=2, length=WINDOW, num_starts=10_000)
    assert cut is not None
    starts = cut.steps[:, 0]
    assert set((starts % 9).tolist()) == set(range(7)) and len(starts) == 7 * len(examined.recorded) // 9
    assert (cut.steps // 9 == starts[:, None] // 9).all()
    assert (cut.mask == (starts[:, None] % 9 + torch.arange(WINDOW) < 9)).all()
    assert cut.has_reward.sum() > cut.has_frame.sum(), "the last reward has no next frame"
    assert segments(examined.recorded, context=9, length=10, num_starts=9) is None


def test_windows_cover_every_step_once(examined: Examination) -> None:
    covered = torch.cat([piece.steps[piece.mask] for piece in windows(examined.recorded, length=WINDOW)])
    assert sorted(covered.tolist()) == list(range(len(examined.recorded)))


def test_some_frames_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert spread(5, most=64) == [0, 1, 2, 3, 4]
    assert spread(101, most=5) == [0, 25, 50, 75, 100]
    assert len(set(spread(10_000, most=64))) == 64


def test_a_time_limit_is_an_end_only_where_training_counts_it_as_one(tiny: TinyCatch) -> None:
    episode = tiny.episodes[0]
    cut_short = replace(episode, terminated=episode.truncated, truncated=episode.terminated)
    for time_limit_is_end in (True, False):
        seen = held_out(tiny.tokenizer, [cut_short], time_limit_is_end=time_limit_is_end, device=CPU)
        assert bool(seen.ends[-1]) is time_limit_is_end


def test_all_measurements_are_finite_counted_and_repeatable(examined: Examination) -> None:
    sizes = {"context": 3, "num_starts": 4, "num_samples": 2}
    quality = measure(examined, **sizes, generator=generator())
    again = measure(examined, **sizes, generator=generator())
    assert (quality.measurements, quality.confusion) == (again.measurements, again.confusion)
    assert {name: array.tobytes() for name, array in quality.stretches.items()} == {
        name: array.tobytes() for name, array in again.stretches.items()
    }
    assert all(np.isfinite(each.value) and each.n > 0 for each in quality.measurements)
    names = [(m.metric, m.mode, m.context, m.horizon, m.of_class) for m in quality.measurements]
    assert len(set(names)) == len(names)
    assert {context for _, _, context, _, _ in names} == {None, 1, 3}
    assert sum(map(sum, quality.confusion["reward"])) == len(examined.recorded)


def test_sums_over_stretches_give_the_means_that_are_measured(examined: Examination) -> None:
    quality = measure(examined, context=3, num_starts=20, num_samples=2, generator=generator())
    stretches = quality.stretches
    measured = {(each.metric, each.mode): [] for each in quality.measurements if each.context in (None, 1)}
    for each in quality.measurements:
        if each.context in (None, 1):
            measured[each.metric, each.mode].append((each.value, each.n))
    sums = {name.removeprefix("sum/"): sums for name, sums in stretches.items() if name.startswith("sum/")}
    assert {"psnr", "ssim", "open_ssim/ceiling", "reward_error/sampled"} <= set(sums) and len(sums) == 23
    for name, table in sums.items():
        metric, _, mode = name.partition("/")
        weight = stretches[f"weight/{metric}"]
        assert len(table) == 20 and weight.shape == table.shape, "a stretch a start"
        means, counts = np.atleast_1d(table.sum(axis=0)), np.atleast_1d(weight.sum(axis=0))
        found = [(total / n, n) for total, n in zip(means, counts, strict=True) if n]
        assert found == [pytest.approx(pair, rel=1e-5) for pair in measured[metric, mode]], name
    assert stretches["num_episodes"] == [len(examined.recorded) // 9] and stretches["context"] == [1]


def test_a_start_counts_in_the_stretch_of_the_recording_in_which_it_lies(examined: Examination) -> None:
    many = measure(examined, context=1, num_starts=96, num_samples=1, generator=generator()).stretches
    assert many["weight/psnr"].tolist() == many["weight/ssim"].tolist()
    assert len(many["weight/psnr"]) == 32 and np.ptp(many["weight/psnr"]) <= 1, "stretches are equally long"
    cut = segments(examined.recorded, context=1, length=WINDOW, num_starts=96)
    assert cut is not None
    expected = np.bincount(cut.steps[:, 0].numpy() * 32 // len(examined.recorded), minlength=32)
    assert many["weight/open_psnr"][:, 0].tolist() == expected.tolist()


def test_a_trained_tokenizer_is_better_than_a_fresh_one(tiny: TinyCatch, examined: Examination) -> None:
    fresh = tokenizer_quality(before(tiny, tiny.fresh_tokenizer, tiny.world_model))
    trained = tokenizer_quality(examined)
    for metric in ("psnr", "ssim"):
        assert values(trained, metric)[0] > values(fresh, metric)[0]


def test_a_collapsed_codebook_lowers_perplexity_usage_and_psnr(
    tiny: TinyCatch, examined: Examination
) -> None:
    codes = tiny.tokenizer.quantizer.codebook.weight
    kept = codes.clone()
    codes.data[:] = codes.data[:1]
    collapsed = tokenizer_quality(before(tiny, tiny.tokenizer, tiny.world_model))
    codes.data[:] = kept
    whole = tokenizer_quality(examined)
    for metric in ("perplexity", "usage", "psnr"):
        assert values(collapsed, metric)[0] < values(whole, metric)[0]
    assert values(collapsed, "perplexity") == [1]
    assert set(values(collapsed, "token_share")) == {1} and values(whole, "token_share")[0] < 0.8


def test_a_trained_world_model_is_better_than_a_fresh_one(tiny: TinyCatch, examined: Examination) -> None:
    fresh, trained = (
        ahead(each) for each in (before(tiny, tiny.tokenizer, tiny.fresh_world_model), examined)
    )
    for mode in ("greedy", "sampled", "best_of_k", "teacher_forced"):
        for metric in ("token_accuracy", "changed_token_accuracy", "open_psnr", "open_ssim"):
            assert np.mean(values(trained, metric, mode)) > np.mean(values(fresh, metric, mode)), mode


def test_copying_the_last_frame_loses_on_changed_tokens(examined: Examination) -> None:
    found = ahead(examined)
    assert set(values(found, "changed_token_accuracy", "copy_last")) == {0}
    assert min(values(found, "changed_token_accuracy", "greedy")) > 0.1
    assert np.mean(values(found, "token_accuracy", "copy_last")) > 0.3, "plain accuracy flatters it"


def test_other_actions_worsen_every_forecast(examined: Examination) -> None:
    shuffled = examined.recorded.actions[torch.randperm(len(examined.recorded), generator=generator())]
    confused = replace(examined, recorded=replace(examined.recorded, actions=shuffled))
    right, wrong = (ahead(each, num_starts=96) for each in (examined, confused))
    for metric in ("token_accuracy", "changed_token_accuracy", "open_psnr"):
        for mode in ("greedy", "teacher_forced"):
            assert np.mean(values(right, metric, mode)) > np.mean(values(wrong, metric, mode)), (metric, mode)
    assert values(right, "token_accuracy", "copy_last") == values(wrong, "token_accuracy", "copy_last")


def test_no_forecast_beats_what_it_is_bounded_by(examined: Examination) -> None:
    found = ahead(examined, context=2)
    for metric in ("open_psnr", "open_ssim"):
        ceiling = np.mean(values(found, metric, "ceiling"))
        for mode in ("greedy", "sampled", "copy_last_tokens"):
            assert np.mean(values(found, metric, mode)) < ceiling
    for metric in ("token_accuracy", "open_psnr"):
        assert values(found, metric, "best_of_k") > values(found, metric, "sampled")
    assert values(found, "reward_error", "best_of_k") <= values(found, "reward_error", "sampled")


def test_the_heads_of_a_trained_world_model_find_rewards_and_ends(
    tiny: TinyCatch, examined: Examination
) -> None:
    fresh, _ = head_quality(before(tiny, tiny.tokenizer, tiny.fresh_world_model))
    trained, counts = head_quality(examined)
    for metric in ("reward_macro_f1", "end_average_precision"):
        assert values(trained, metric)[0] > values(fresh, metric)[0] + 0.2
    assert values(trained, "end_base_rate") == [pytest.approx(1 / 9)]
    assert values(trained, "end_average_precision")[0] > 0.9
    assert np.mean(values(trained, "end_precision")) > np.mean(values(fresh, "end_precision")) + 0.2
    assert values(trained, "end_calibration_error")[0] < values(fresh, "end_calibration_error")[0]
    assert sum(counts["end"][1]) == len(tiny.episodes)


def test_rewards_shown_upside_down_are_told_wrongly(examined: Examination) -> None:
    turned = replace(examined, recorded=replace(examined.recorded, signs=-examined.recorded.signs))
    right, wrong = (head_quality(each)[0] for each in (examined, turned))
    assert values(wrong, "reward_macro_f1")[0] < values(right, "reward_macro_f1")[0]
    right, wrong = (ahead(each) for each in (examined, turned))
    assert np.mean(values(wrong, "reward_error", "greedy")) > np.mean(values(right, "reward_error", "greedy"))


def test_greedy_imagination_draws_nothing(examined: Examination) -> None:
    cut = segments(examined.recorded, context=1, length=WINDOW, num_starts=5)
    assert cut is not None
    random = generator()
    forecasts = [
        imagined(examined.world_model, examined.recorded, cut, generator=random, greedy=True)
        for _ in range(2)
    ]
    assert (forecasts[0].tokens == forecasts[1].tokens).all()
    assert (random.get_state() == generator().get_state()).all()


def test_a_film_starts_with_what_is_known_and_shows_the_recording(examined: Examination) -> None:
    shown = film(examined, num_films=3, generator=generator())
    assert shown["truth"].shape == shown["imagination"].shape == (3, WINDOW, 3, 64, 64)
    assert shown["actions"].shape == (3, WINDOW - 1) and shown["mask"].all()
    for name in ("imagination", "greedy"):
        assert (shown[name][:, 0] == shown["reconstruction"][:, 0]).all()
        assert not (shown[name][:, 1:] == shown["reconstruction"][:, 1:]).all()
    recordings = {frame.tobytes() for episode in recorded(50, seed=1) for frame in episode.observations}
    assert all(frame.tobytes() in recordings for frame in shown["truth"].reshape(-1, 3, 64, 64))
