"""Each reconstruction term against a slow statement of its published definition."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from sizes import tokenizer_settings
from torch import Tensor, nn
from torch.testing import assert_close
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from irisflow import params, variants
from irisflow.data.replay import ReplayBuffer
from irisflow.errors import ConfigError
from irisflow.records import Episode
from irisflow.tokenizer.reconstruction.base import Pictures
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.losses import frames_of, tokenizer_loss


def term(name: str, **settings: float) -> nn.Module:
    built: nn.Module = variants.build("reconstruction", {"name": name, "weight": 1.0, **settings})
    return built


def pictures(size: int, *, batch: int = 2, noise: float = 0.4, seed: int = 0) -> Pictures:
    draws = torch.Generator().manual_seed(seed)
    target, previous = torch.rand(2, batch, 3, size, size, generator=draws) * 2 - 1
    prediction = target + noise * torch.randn(target.shape, generator=draws)
    return Pictures(target, prediction.requires_grad_(), previous)


def test_huber_is_squared_below_delta_and_has_slope_delta_above() -> None:
    seen = pictures(8)
    differences = (seen.prediction - seen.target).flatten().tolist()
    expected = [d * d / 2 if abs(d) <= 0.3 else 0.3 * (abs(d) - 0.15) for d in differences]
    assert term("huber", delta=0.3)(seen).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_delta_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer\.reconstruction\.huber\.delta is 0\.0; allowed"):
        term("huber", delta=0.0)


def slow_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return Wang et al.'s SSIM of two channels in [0, 1], window by window, borders reflected."""
    reach, size = 5, first.shape[0]
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    first, second = (np.pad(image, reach, mode="reflect") for image in (first, second))
    values = []
    for row, column in product(range(size), repeat=2):
        x, y = (image[row : row + 11, column : column + 11] for image in (first, second))
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        variance_x, variance_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
        covariance = (window * (x - mean_x) * (y - mean_y)).sum()
        brightness = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)
        values.append(brightness * structure)
    return float(np.mean(values))


def test_ssim_is_the_published_one_on_pictures_in_0_to_1() -> None:
    seen = pictures(14)
    target, prediction = ((i.detach().double().numpy() + 1) / 2 for i in (seen.target, seen.prediction))
    values = [slow_ssim(prediction[i, c], target[i, c]) for i, c in product(range(2), range(3))]
    assert term("ssim")(seen).item() == pytest.approx(1 - np.mean(values), abs=1e-5)


@pytest.mark.parametrize("sigma", [0.2, 1.5, 3.0])
def test_ssim_and_its_gradient_are_torchmetrics_own(sigma: float) -> None:
    seen = pictures(64)
    similarity = structural_similarity_index_measure(
        seen.prediction + 1, seen.target + 1, sigma=sigma, data_range=2.0, reduction="elementwise_mean"
    )
    assert isinstance(similarity, Tensor)
    distances = (term("ssim", sigma=sigma)(seen), 1 - similarity)
    assert_close(*distances, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(distance, seen.prediction)[0] for distance in distances]
    assert_close(*gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("num_scales", [1, 2, 3])
def test_ms_ssim_is_torchmetrics_own_with_exponents_that_sum_to_one(num_scales: int) -> None:
    seen = pictures(64)
    exponents = np.array([0.0448, 0.2856, 0.3001][:num_scales])
    similarity = multiscale_structural_similarity_index_measure(
        (seen.prediction + 1) / 2,
        (seen.target + 1) / 2,
        data_range=1.0,
        betas=tuple((exponents / exponents.sum()).tolist()),
    )
    assert_close(term("ms_ssim", num_scales=num_scales)(seen), 1 - similarity, rtol=1e-4, atol=1e-5)


def test_ms_ssim_has_a_finite_gradient_where_structure_is_inverted() -> None:
    target = pictures(64).target
    inverted = (-target).requires_grad_()
    distance = term("ms_ssim")(Pictures(target, inverted))
    distance.backward()
    assert 0.9 < distance < 1
    assert inverted.grad is not None and inverted.grad.isfinite().all()


def test_a_window_or_scales_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ms_ssim\.num_scales is 6; allowed: 1 to 5\."):
        term("ms_ssim", num_scales=6)
    with pytest.raises(
        ConfigError, match=r"ms_ssim\.sigma is 1\.5, a window of 11 pixels; .* up to 8 pixels"
    ):
        term("ms_ssim", num_scales=4)(pictures(64))
    with pytest.raises(
        ConfigError, match=r"ssim\.sigma is 20\.0, a window of 141 pixels; .* up to 64 pixels"
    ):
        term("ssim", sigma=20.0)(pictures(64))


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "focal_frequency", "worst_pixel", "motion", "huber"])
def test_autocast_does_not_change_a_distance(name: str) -> None:
    seen = pictures(64, noise=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = term(name)(seen)
    assert torch.equal(found, term(name)(seen))


def slow_focal_frequency(seen: Pictures, alpha: float) -> Tensor:
    """Return Jiang et al.'s loss by the sum that defines the transform, spectrum by spectrum."""
    size = seen.target.shape[-1]
    turns = torch.outer(torch.arange(size), torch.arange(size)).double() / size
    fourier = torch.polar(torch.full_like(turns, 1 / math.sqrt(size)), -2 * math.pi * turns)
    losses = []
    for target, prediction in zip(seen.target.flatten(0, 1), seen.prediction.flatten(0, 1), strict=True):
        real, drawn = (fourier @ image.to(torch.complex128) @ fourier for image in (target, prediction))
        weight = (real - drawn).abs().detach() ** alpha
        losses.append((weight / weight.max() * (real - drawn).abs() ** 2).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_focal_frequency_has_the_papers_value_and_gradient(alpha: float) -> None:
    seen = pictures(8)
    expected = slow_focal_frequency(seen, alpha)
    found = term("focal_frequency", alpha=alpha)(seen)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, seen.prediction)[0] for loss in (found, expected)]
    assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_focal_frequency_without_focus_is_the_squared_difference() -> None:
    seen = pictures(64)
    assert_close(term("focal_frequency", alpha=0.0)(seen), term("l2")(seen))


def test_the_worst_pixel_is_the_largest_squared_difference_of_each_picture() -> None:
    seen = pictures(8, batch=3)
    difference = (seen.prediction - seen.target).detach()
    expected = np.mean([max(d * d for d in image.flatten().tolist()) for image in difference])
    found = term("worst_pixel")(seen)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(found, seen.prediction)
    assert gradient.flatten(1).count_nonzero(dim=1).tolist() == [1, 1, 1]


def test_motion_weights_each_pixel_by_how_much_it_changed() -> None:
    seen = pictures(6)
    values = []
    for target, drawn, before in zip(seen.target, seen.prediction, seen.previous, strict=True):
        changes = [
            [max(abs(target[c, y, x] - before[c, y, x]) for c in range(3)) / 2 for x in range(6)]
            for y in range(6)
        ]
        weights = 1 + 7 * torch.tensor(changes)
        errors = (drawn - target).abs().mean(dim=0)
        values.append((weights * errors).sum() / weights.sum())
    assert_close(term("motion", strength=7.0)(seen), torch.stack(values).mean())


def test_motion_is_the_absolute_difference_where_nothing_moved() -> None:
    seen = pictures(64)
    still = Pictures(seen.target, seen.prediction, seen.target)
    assert_close(term("motion")(still), term("l1")(still))
    assert term("motion")(seen) != term("l1")(seen)


def replay() -> ReplayBuffer:
    """Return episodes of 3 and 2 steps whose frames are all 10, 11, 12 and all 20, 21."""
    buffer = ReplayBuffer(5)
    for first, length in ((10, 3), (20, 2)):
        values = np.arange(first, first + length, dtype=np.uint8)
        frames = np.broadcast_to(values[:, None, None, None], (length, 3, 64, 64)).copy()
        ends = np.arange(length) == length - 1
        nothing = np.zeros(length)
        buffer.append(
            Episode(
                frames, nothing.astype(np.int64), nothing.astype(np.float32), ends, np.zeros(length, bool)
            )
        )
    return buffer


def values(frames: Tensor) -> list[int]:
    """Return the value that all numbers of each frame have."""
    return (frames[:, 0, 0, 0] * 255).round().int().tolist()


def test_the_previous_frame_is_the_one_before_and_at_an_episodes_first_step_the_frame_itself() -> None:
    batch = replay().segments(np.array([0, 0, 0, 1, 1]), np.array([-1, 0, 1, -1, 0]), 2)
    frames, previous = frames_of(batch)
    assert previous is not None
    assert values(frames) == [10, 11, 12, 20, 21]
    assert values(previous) == [10, 10, 11, 20, 20]


def test_segments_of_one_frame_have_no_previous() -> None:
    frames, previous = frames_of(replay().segments(np.array([0]), np.array([1]), 1))
    assert values(frames) == [11] and previous is None


def with_terms(**terms: dict) -> Tokenizer:
    torch.manual_seed(0)
    return build_tokenizer(tokenizer_settings(reconstruction=terms))


def test_a_tokenizer_hands_the_previous_frames_to_its_terms_as_it_does_the_others() -> None:
    tokenizer = with_terms(l1={"weight": 1.0}, motion={"weight": 2.0, "strength": 5.0})
    assert tokenizer.needs_previous and not with_terms(l1={"weight": 1.0}).needs_previous
    now, before = torch.rand(2, 3, 2, 3, 64, 64)
    loss = tokenizer.loss(now, before)
    seen = Pictures(2 * now.flatten(0, 1) - 1, tokenizer(now.flatten(0, 1))[1], 2 * before.flatten(0, 1) - 1)
    assert_close(loss.terms["motion"], term("motion", weight=2.0, strength=5.0)(seen))
    assert_close(loss.terms["l1"], term("l1")(seen))


def test_a_tokenizer_that_needs_previous_frames_draws_them_and_is_trained_on_the_same_frames() -> None:
    def losses(tokenizer: Tokenizer) -> dict[str, Tensor]:
        rng = np.random.default_rng(0)
        draw = tokenizer_loss(
            tokenizer, replay(), rng, torch.device("cpu"), batch_size=4, sample_by="episode"
        )
        return draw().terms

    both = losses(with_terms(l1={"weight": 1.0}, motion={"weight": 1.0}))
    assert both["motion"].isfinite()
    assert_close(both["l1"], losses(with_terms(l1={"weight": 1.0}))["l1"])


@pytest.mark.parametrize("name", [name for name in params.names("variant") if name.startswith("loss_")])
def test_each_variant_of_the_loss_trains_its_tokenizer(name: str) -> None:
    settings = params.settings_from([f"variant={name}", "scale=smoke"])
    assert settings.variant.name == settings.tokenizer.name == name
    torch.manual_seed(0)
    tokenizer = build_tokenizer(settings.tokenizer).train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    frames, before = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.3
    first_term, history = next(iter(settings.tokenizer.reconstruction)), []
    for _ in range(5):
        loss = tokenizer.loss(frames, before if tokenizer.needs_previous else None)
        history.append(loss.terms[first_term].item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert math.isfinite(history[-1]) and history[-1] < 0.9 * history[0]
