"""The 3 x 3 convolution of the kernels is torch's, with its gradients, to rounding."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow.convolution import Conv3x3
from irisflow.kernels import convolution
from irisflow.kernels.build import library
from irisflow.plainly import as_torch_does

# images, inputs, outputs, height, width: whole tiles of 4 x 4 and not, blocks of 16 and 32 outputs, one and several
SHAPES = [
    (2, 64, 64, 16, 16),
    (3, 16, 48, 9, 6),
    (1, 32, 16, 4, 4),
    (70, 16, 16, 4, 5),
    (2, 48, 32, 1, 2),
    (1, 128, 96, 64, 64),
]


def maps(*shape: int) -> Tensor:
    """Return random maps channels last."""
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def layer(num_inputs: int, num_outputs: int) -> Conv3x3:
    torch.manual_seed(0)
    return Conv3x3(num_inputs, num_outputs)


def exactly(of: Conv3x3, given: Tensor) -> Tensor:
    """Return torch's convolution in double precision."""
    return F.conv2d(given.double(), of.weight.double(), of.bias.double(), padding=1)


def is_close(found: Tensor, expected: Tensor, *, share: float = 1e-5) -> None:
    """Check that nothing differs by more than a share of the largest magnitude."""
    scale = expected.abs().max().item()
    assert_close(found.double(), expected.double(), rtol=0, atol=share * scale)


def test_there_are_kernels() -> None:
    assert library() is not None, "every other test here would hold torch against itself"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_doubled", [False, True])
def test_it_is_torchs_in_double_precision(shape: tuple[int, ...], is_doubled: bool) -> None:
    images, num_inputs, num_outputs, *sides = shape
    of, given = layer(num_inputs, num_outputs), maps(images, num_inputs, *sides)
    assert convolution.can_convolve(given, of.weight)
    seen = F.interpolate(given, scale_factor=2.0) if is_doubled else given
    expected = exactly(of, seen)
    is_close(of.doubled(given) if is_doubled else of(given), expected)
    if not is_doubled:
        other = torch.randn(expected.shape)
        is_close(of.added(given, other), expected + other)


@pytest.mark.parametrize("shape", [*SHAPES, (8, 16, 16, 64, 64)])
@pytest.mark.parametrize("is_doubled", [False, True])
def test_gradients_are_torchs(shape: tuple[int, ...], is_doubled: bool) -> None:
    images, num_inputs, num_outputs, *sides = shape
    of, given = layer(num_inputs, num_outputs), maps(images, num_inputs, *sides).requires_grad_()
    assert of.bias is not None
    seen = F.interpolate(given, scale_factor=2.0) if is_doubled else given
    expected = exactly(of, seen)
    other = torch.randn(expected.shape, requires_grad=True)
    upstream = torch.randn(expected.shape)
    found = of.doubled(given) + other if is_doubled else of.added(given, other)
    wanted = [given, of.weight, of.bias, other]
    ours = torch.autograd.grad(found, wanted, upstream)
    theirs = torch.autograd.grad(expected + other, wanted, upstream.double())
    for mine, torchs in zip(ours, theirs, strict=True):
        is_close(mine, torchs, share=1e-4)


def test_only_the_gradients_that_are_wanted_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    of, given = layer(16, 16).requires_grad_(False), maps(2, 16, 8, 8).requires_grad_()
    monkeypatch.setattr("irisflow.convolution.weights_gradient", None)
    of(given).sum().backward()
    assert given.grad is not None and of.weight.grad is None


def test_weights_at_the_points_follow_the_weights() -> None:
    of, given = layer(16, 32), maps(1, 16, 8, 8)
    of(given)
    with torch.no_grad():
        of.weight.mul_(2)
    is_close(of(given), exactly(of, given))
    of.load_state_dict(layer(16, 32).state_dict(), assign=True)
    is_close(of(given), exactly(of, given))


def test_copies_do_without_weights_at_the_points() -> None:
    of, given = layer(16, 32), maps(1, 16, 8, 8)
    expected = of(given)
    for twin in (copy.deepcopy(of), pickle.loads(pickle.dumps(of))):
        assert twin._at_points._kept[False]._made is None
        assert torch.equal(twin(given), expected)


def test_the_number_of_threads_changes_no_output() -> None:
    of, given = layer(64, 64), maps(3, 64, 20, 24)
    before, found = torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        found.append(of(given))
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("given", "of"),
    [
        (torch.randn(2, 16, 8, 8), layer(16, 16)),
        (maps(2, 16, 8, 8).double(), layer(16, 16).double()),
        (maps(2, 3, 8, 8), layer(3, 16)),
        (maps(2, 16, 8, 8), layer(16, 3)),
    ],
    ids=["contiguous", "double", "3 inputs", "3 outputs with gradient"],
)
def test_what_no_kernel_takes_is_torchs_own(given: Tensor, of: Conv3x3) -> None:
    assert not convolution.can_convolve(given, of.weight)
    expected = F.conv2d(given, of.weight, of.bias, padding=1)
    assert torch.equal(of(given), expected)
    assert torch.equal(of.added(given, expected), expected + expected)


def test_any_number_of_outputs_is_made_without_gradient() -> None:
    of, given = layer(16, 3), maps(2, 16, 8, 8)
    with torch.no_grad():
        assert convolution.can_convolve(given, of.weight)
        expected = exactly(of, given)
        found = of(given)
        assert found.is_contiguous(memory_format=torch.channels_last)
        is_close(found, expected)
        is_close(of.added(given, found), expected + found)
        is_close(of.doubled(given), exactly(of, F.interpolate(given, scale_factor=2.0)))


def test_plainly_it_is_torchs_own() -> None:
    of, given = layer(16, 16), maps(2, 16, 8, 8)
    with as_torch_does():
        assert not convolution.can_convolve(given, of.weight)
        assert torch.equal(of(given), F.conv2d(given, of.weight, of.bias, padding=1))


def test_bfloat16_is_torchs_own() -> None:
    of, given = layer(16, 16), maps(2, 16, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert of(given).dtype == torch.bfloat16
