"""A tokenizer computed by kernels has the plain one's tokens and gradients, and pictures as exact as the plain ones."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import params
from irisflow.bench.plain import plain_tokenizer
from irisflow.kernels.use import has_kernels
from irisflow.params import Choice
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer


@pytest.fixture(scope="module", params=["full", "quick"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    torch.manual_seed(0)
    choice = Choice(request.param, variant="iris", overrides=("tokenizer.reconstruction.lpips.weight=0",))
    settings = params.stage_settings("train_agent", params.compose(choice))
    return build_tokenizer(settings.tokenizer)


def frames(num: int) -> Tensor:
    return torch.rand(num, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def exact(tokenizer: Tokenizer) -> Tokenizer:
    """Return the plain tokenizer in double precision."""
    return plain_tokenizer(tokenizer).double().eval()


def is_as_exact(found: Tensor, plain: Tensor, expected: Tensor) -> None:
    """Check that what is found is not much farther from what double precision gives than what torch computes plainly."""
    ours, torchs = (float((each - expected).abs().max()) for each in (found, plain))
    assert ours < 2 * torchs + 2e-6 and ours < 3e-5, (ours, torchs)


def test_tokens_are_the_plain_ones_and_numbers_as_exact(tokenizer: Tokenizer) -> None:
    assert has_kernels()
    plain, wide, images = plain_tokenizer(tokenizer).eval(), exact(tokenizer), frames(9)
    with torch.no_grad():
        latents = (tokenizer.latents(images), plain.latents(images), wide.latents(images.double()))
        is_as_exact(*latents)
        tokens = tokenizer.encode(images)
        assert torch.equal(tokens, plain.encode(images))
        other = torch.randint(tokenizer.vocab_size, (9, 16), generator=torch.Generator().manual_seed(1))
        for some in (tokens, other):
            is_as_exact(tokenizer.decode(some), plain.decode(some), wide.draw(wide.embed(some)))


def test_a_frame_by_itself_is_the_same_as_among_others(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(frames(9))
    among, alone = tokenizer.decode(tokens), tokenizer.decode(tokens[3:4])
    assert_close(among[3:4], alone, rtol=0, atol=3e-5)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_gradients_are_as_exact_as_the_plain_ones(tokenizer: Tokenizer, part: str) -> None:
    plain, wide, images = plain_tokenizer(tokenizer), exact(tokenizer), frames(4)
    with torch.no_grad():
        given = images if part == "encoder" else plain.post_quant_conv(plain.latents(images))
    nets = [each.get_submodule(part) for each in (tokenizer, plain, wide)]
    for net, inputs in zip(nets, (given, given, given.double()), strict=True):
        net.zero_grad()
        net(inputs).square().mean().backward()
    least = 1e-6 * max(float(weight.grad.abs().max()) for weight in nets[2].parameters())
    for name, weight in nets[2].named_parameters():
        ours, torchs = (net.get_parameter(name).grad for net in nets[:2])
        assert ours is not None and torchs is not None and weight.grad is not None, name
        error, other = (float((grad - weight.grad).abs().max()) for grad in (ours, torchs))
        scale = float(weight.grad.abs().max())
        assert error < 2 * other + 1e-4 * scale + least, (name, error, other, scale)
