"""The convolution that halves maps is torch's of maps with zeros right of and below them, to rounding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow.convolution import Halving
from irisflow.kernels.halving import can_halve
from irisflow.plainly import as_torch_does

# images, channels, height, width: one vector of outputs and several, whole blocks of new pixels and not, odd sides
SHAPES = [(2, 64, 64, 64), (3, 16, 8, 6), (1, 48, 2, 4), (2, 32, 5, 7), (1, 512, 8, 8), (1, 16, 2, 2)]


def layer(channels: int) -> Halving:
    torch.manual_seed(0)
    return Halving(channels)


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def exactly(of: Halving, given: Tensor) -> Tensor:
    padded = F.pad(given.double(), (0, 1, 0, 1))
    return F.conv2d(padded, of.weight.double(), of.bias.double(), stride=2)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs_in_double_precision(shape: tuple[int, ...]) -> None:
    of, given = layer(shape[1]), maps(*shape)
    assert can_halve(given, of.weight)
    found, expected = of(given), exactly(of, given)
    assert found.shape == expected.shape
    assert_close(found.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    with as_torch_does():
        assert not can_halve(given, of.weight)
        assert_close(found, of(given), rtol=0, atol=1e-5)


@torch.no_grad()
def test_new_weights_count_and_threads_do_not() -> None:
    of, given, num_threads = layer(32), maps(3, 32, 10, 10), torch.get_num_threads()
    before = of(given)
    assert torch.equal(copy.deepcopy(of)(given), before)
    of.weight.mul_(2)
    of.bias.mul_(2)
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append(of(given))
    torch.set_num_threads(num_threads)
    assert torch.equal(made[0], 2 * before)
    assert all(torch.equal(made[0], each) for each in made)


def test_gradients_and_other_maps_are_torchs() -> None:
    of, given = layer(16), maps(2, 16, 6, 6).requires_grad_()
    assert not can_halve(given, of.weight)
    assert torch.autograd.gradcheck(of.double(), (given.detach().double().requires_grad_(),))
    with torch.no_grad():
        assert not can_halve(maps(1, 24, 6, 6), layer(24).weight)
        assert not can_halve(torch.randn(1, 16, 6, 6), layer(16).weight)
