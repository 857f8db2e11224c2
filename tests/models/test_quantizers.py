"""The contract of `tokenizer/quantizers/base.py`, for every quantizer that there is."""

import pytest
import torch
from parts import settings_of
from torch.testing import assert_close

from irisflow import variants
from irisflow.tokenizer.quantizers.base import Quantizer

QUANTIZERS = variants.available("quantizer")
EMBED, HEIGHT, WIDTH = 16, 3, 5


def build(name: str, *overrides: str) -> Quantizer:
    torch.manual_seed(0)
    quantizer: Quantizer = variants.build("quantizer", settings_of("quantizer", name, *overrides))
    return quantizer


def latents(seed: int = 1) -> torch.Tensor:
    return torch.randn(2, EMBED, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("is_training", [True, False])
def test_tokens_lie_below_the_vocabulary_size(name: str, is_training: bool) -> None:
    quantizer = build(name).train(is_training)
    quantized = quantizer(latents())
    assert quantized.tokens.shape == (2, HEIGHT * WIDTH * quantizer.tokens_per_position)
    assert quantized.tokens.min() >= 0 and quantized.tokens.max() < quantizer.vocab_size
    assert quantized.latents.shape == quantized.codes.shape == (2, EMBED, HEIGHT, WIDTH)
    assert quantized.loss.shape == () and quantized.loss.isfinite()


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_those_that_the_tokens_stand_for(name: str) -> None:
    quantizer = build(name).eval()
    quantized = quantizer(latents())
    assert_close(quantizer.lookup(quantized.tokens, height=HEIGHT), quantized.codes)
    assert_close(quantized.latents, quantized.codes)
    again = quantizer(latents())
    assert torch.equal(again.tokens, quantized.tokens), "nothing is drawn and nothing moves in eval mode"


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_gradient_reaches_the_encoder_through_the_codes(name: str) -> None:
    quantizer, inputs = build(name).train(), latents().requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(inputs).latents.square().sum(), inputs)
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("name", QUANTIZERS)
def test_training_draws_only_from_the_global_generator_and_saved_weights_say_all(name: str) -> None:
    """A resumed run restores both: so after them nothing may differ."""
    one, other = build(name).train(), build(name).train()
    for seed in (1, 2):
        one(latents(seed))
    other.load_state_dict(one.state_dict())
    stream = torch.get_rng_state()
    expected = one(latents(3))
    torch.set_rng_state(stream)
    found = other(latents(3))
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.latents, expected.latents)
    for key, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_the_gradient_of_vq_passes_straight_through() -> None:
    inputs = latents().requires_grad_()
    (gradient,) = torch.autograd.grad(build("vq")(inputs).latents.sum(), inputs)
    assert torch.equal(gradient, torch.ones_like(inputs))
