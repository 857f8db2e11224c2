"""The contract of `tokenizer/reconstruction/base.py`, for every term that there is."""

import pytest
import torch
from parts import settings_of
from torch import Tensor, nn

from irisflow import variants
from irisflow.tokenizer.reconstruction.base import Pictures

TERMS = variants.available("reconstruction")
OFFLINE = {"lpips": {"trunk": "shift_tolerant"}}  # the published trunk is downloaded


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings = settings_of("reconstruction", name) | OFFLINE.get(name, {})
    term: nn.Module = variants.build("reconstruction", settings)
    return term.eval()


def pictures(noise: float, *, seed: int = 0) -> Pictures:
    draws = torch.Generator().manual_seed(seed)
    target, previous = torch.rand(2, 2, 3, 64, 64, generator=draws) * 2 - 1
    added = noise * torch.randn(target.shape, generator=draws)
    return Pictures(target, (target + added).requires_grad_(), previous)


def distance(term: nn.Module, seen: Pictures) -> Tensor:
    found: Tensor = term(seen)
    return found


def plain_terms() -> list[str]:
    """Return the terms that are distances: an adversarial one has tests of its own."""
    return [name for name in TERMS if not getattr(build(name), "is_adversarial", False)]


@pytest.mark.parametrize("name", plain_terms())
def test_equal_pictures_have_no_distance_and_more_noise_more_of_it(name: str) -> None:
    term = build(name)
    none, some, more = (distance(term, pictures(noise)).item() for noise in (0.0, 0.1, 0.5))
    assert abs(none) < 1e-6
    assert none < some < more


@pytest.mark.parametrize("name", plain_terms())
def test_the_gradient_reaches_the_prediction_and_pulls_it_to_the_target(name: str) -> None:
    term, seen = build(name), pictures(0.3)
    before = distance(term, seen)
    (gradient,) = torch.autograd.grad(before, seen.prediction)
    assert gradient.isfinite().all() and gradient.any()
    step = 1e-2 * gradient / gradient.norm()
    nearer = Pictures(seen.target, seen.prediction - step, seen.previous)
    assert distance(term, nearer) < before


@pytest.mark.parametrize("name", plain_terms())
def test_the_weight_multiplies_the_distance(name: str) -> None:
    settings = settings_of("reconstruction", name) | OFFLINE.get(name, {})
    once, thrice = (
        variants.build("reconstruction", settings | {"weight": weight}).eval() for weight in (1.0, 3.0)
    )
    assert thrice(pictures(0.3)).item() == pytest.approx(3 * once(pictures(0.3)).item(), rel=1e-5)


@pytest.mark.parametrize("name", plain_terms())
def test_a_term_that_needs_the_previous_frame_says_so_and_no_other_reads_it(name: str) -> None:
    term, seen = build(name), pictures(0.3)
    without = Pictures(seen.target, seen.prediction)
    if getattr(term, "needs_previous", False):
        other = Pictures(seen.target, seen.prediction, seen.target)
        assert distance(term, other) != distance(term, seen)
    else:
        assert distance(term, without) == distance(term, seen)
