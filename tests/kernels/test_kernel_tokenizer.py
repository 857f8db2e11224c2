"""At IRIS's sizes a tokenizer computed by kernels has the plain one's tokens, pictures and gradients."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import params
from irisflow.bench.plain import plain_tokenizer
from irisflow.kernels.use import has_kernels
from irisflow.params import Choice
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    choice = Choice("full", variant="iris", overrides=("tokenizer.reconstruction.lpips.weight=0",))
    settings = params.stage_settings("train_agent", params.compose(choice))
    return build_tokenizer(settings.tokenizer)


def frames(num: int) -> Tensor:
    return torch.rand(num, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_tokens_and_pictures_are_the_plain_ones(tokenizer: Tokenizer) -> None:
    assert has_kernels()
    plain, images = plain_tokenizer(tokenizer).eval(), frames(9)
    with torch.no_grad():
        assert_close(tokenizer.latents(images), plain.latents(images), rtol=0, atol=1e-5)
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens, plain.encode(images))
    other = torch.randint(tokenizer.vocab_size, (9, 16), generator=torch.Generator().manual_seed(1))
    for some in (tokens, other):
        assert_close(tokenizer.decode(some), plain.decode(some), rtol=0, atol=1e-5)


def test_a_frame_by_itself_is_the_same_as_among_others(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(frames(9))
    among, alone = tokenizer.decode(tokens), tokenizer.decode(tokens[3:4])
    assert_close(among[3:4], alone, rtol=0, atol=1e-5)


def test_gradients_are_the_plain_ones(tokenizer: Tokenizer) -> None:
    plain = plain_tokenizer(tokenizer)
    for each in (tokenizer, plain):
        each.train().zero_grad()
        each.loss(frames(4)).total.backward()
    for (name, weight), other in zip(tokenizer.named_parameters(), plain.parameters(), strict=True):
        assert weight.grad is not None and other.grad is not None, name
        scale = other.grad.abs().max().item()
        assert_close(
            weight.grad, other.grad, rtol=0, atol=1e-4 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )
