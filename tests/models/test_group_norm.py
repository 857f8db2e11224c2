"""The tokenizer's group norm gives torch's numbers, in whatever layout and pieces."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow.tokenizer import group_norm
from irisflow.tokenizer.group_norm import BYTES_AT_ONCE, LARGE, GroupNorm

CHANNELS, SIDE = 64, 64
ONE = 4 * CHANNELS * SIDE * SIDE  # bytes of an image's map
SIZES = {"small": 3, "large": LARGE // ONE + 1, "large, with a rest": LARGE // ONE + BYTES_AT_ONCE // ONE + 1}


@pytest.fixture
def norm() -> GroupNorm:
    torch.manual_seed(0)
    layer = GroupNorm(32, CHANNELS, eps=1e-6)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer


def maps(num: int) -> Tensor:
    """Return maps channels last whose means are large against their spread."""
    drawn = torch.randn(num, CHANNELS, SIDE, SIDE) + 10 * torch.randn(num, CHANNELS, 1, 1)
    return drawn.contiguous(memory_format=torch.channels_last)


def exactly(norm: GroupNorm, given: Tensor) -> Tensor:
    """Return torch's own result in double precision."""
    wide = (given.double().contiguous(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return F.group_norm(*wide)


@pytest.mark.parametrize("num", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("has_gradient", [False, True])
def test_it_is_torchs_in_double_precision(norm: GroupNorm, num: int, has_gradient: bool) -> None:
    given = maps(num)
    before, expected = given.clone(), exactly(norm, given)
    with torch.set_grad_enabled(has_gradient):
        found, activated = norm(given), norm.silu(given)
    assert torch.equal(given, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert_close(activated.double(), F.silu(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num", [num for name, num in SIZES.items() if name != "small"])
def test_pieces_change_no_number(norm: GroupNorm, num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = maps(num)
    with torch.no_grad():
        in_pieces = norm.silu(given)
        monkeypatch.setattr(group_norm, "LARGE", 2 * given.nbytes)
        assert_close(in_pieces, norm.silu(given), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["silu", "forward"])
def test_gradients_are_torchs(norm: GroupNorm, name: str) -> None:
    given = maps(2).requires_grad_()
    upstream = torch.randn(given.shape)
    way = getattr(norm, name)
    wide = exactly(norm, given)
    wanted = [given, norm.weight, norm.bias]
    found = torch.autograd.grad(way(given), wanted, upstream)
    expected = torch.autograd.grad(F.silu(wide) if name == "silu" else wide, wanted, upstream.double())
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.abs().max().item()
        assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-4 * scale)
