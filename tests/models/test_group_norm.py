"""The tokenizer's group norm gives torch's numbers, by a kernel and without."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow.kernels.normalisation import can_normalise
from irisflow.plainly import as_torch_does
from irisflow.tokenizer.group_norm import GroupNorm

# channels and groups: of 1, 2 and 4 channels; for 16 there is a kernel where registers are wide, for 3 and 24 there is none
KERNELS, WIDE = [(16, 16), (64, 32), (128, 32)], (64, 4)
SIZES = [*KERNELS, WIDE, (48, 16), (24, 24), (48, 2)]


@pytest.fixture(params=SIZES, ids=str)
def norm(request: pytest.FixtureRequest) -> GroupNorm:
    torch.manual_seed(0)
    channels, groups = request.param
    layer = GroupNorm(groups, channels, eps=1e-6)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer


def maps(norm: GroupNorm, *, num: int = 3, side: int = 17) -> Tensor:
    """Return maps channels last whose means are large against their spread."""
    drawn = torch.randn(num, norm.num_channels, side, side) + 10 * torch.randn(num, norm.num_channels, 1, 1)
    return drawn.contiguous(memory_format=torch.channels_last)


def exactly(norm: GroupNorm, given: Tensor) -> Tensor:
    """Return torch's own result in double precision."""
    wide = (given.double().contiguous(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return F.group_norm(*wide)


def test_there_is_a_kernel_for_what_is_said(norm: GroupNorm) -> None:
    sizes = (norm.num_channels, norm.num_groups)
    if sizes != WIDE:
        assert can_normalise(maps(norm), norm.weight, norm.num_groups) == (sizes in KERNELS)
    assert not can_normalise(maps(norm).contiguous(), norm.weight, norm.num_groups)
    with as_torch_does():
        assert not can_normalise(maps(norm), norm.weight, norm.num_groups)


@pytest.mark.parametrize("side", [2, 8, 64])
@pytest.mark.parametrize("has_gradient", [False, True])
def test_it_is_torchs_in_double_precision(norm: GroupNorm, side: int, has_gradient: bool) -> None:
    given = maps(norm, side=side)
    before, expected = given.clone(), exactly(norm, given)
    with torch.set_grad_enabled(has_gradient):
        found, activated = norm(given), norm.silu(given)
    assert torch.equal(given, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert_close(activated.double(), F.silu(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1.0, 30.0, 200.0, 1e30])
def test_the_silu_of_any_number_is_torchs(size: float) -> None:
    layer = GroupNorm(16, 16, eps=1e-6)
    torch.nn.init.constant_(layer.weight, size)
    given = maps(layer, num=1)
    with torch.no_grad():
        expected = F.silu(exactly(layer, given))
        assert_close(layer.silu(given).double(), expected, rtol=2e-5, atol=1e-5 * size)


@pytest.mark.parametrize("norm", KERNELS, ids=str, indirect=True)
def test_the_number_of_threads_changes_nothing(norm: GroupNorm) -> None:
    """Of the kernel: torch's SiLU rounds otherwise at the end of each thread's share."""
    given, before, found = maps(norm), torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        with torch.no_grad():
            found.append(norm.silu(given))
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["silu", "forward"])
def test_gradients_are_torchs(norm: GroupNorm, name: str) -> None:
    given = maps(norm).requires_grad_()
    upstream = torch.randn(given.shape)
    way = getattr(norm, name)
    wide = exactly(norm, given)
    wanted = [given, norm.weight, norm.bias]
    found = torch.autograd.grad(way(given), wanted, upstream)
    expected = torch.autograd.grad(F.silu(wide) if name == "silu" else wide, wanted, upstream.double())
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.abs().max().item()
        assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-4 * scale)
