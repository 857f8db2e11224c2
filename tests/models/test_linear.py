"""The world model's Linear gives torch's numbers, whichever way it takes."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from irisflow.world_model.linear import LEAST_WEIGHTS, MOST_ROWS, Linear


@pytest.fixture
def linear() -> Linear:
    torch.manual_seed(0)
    layer = Linear(256, 1024)
    assert layer.weight.numel() >= LEAST_WEIGHTS
    return layer


def plainly(layer: Linear, rows: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(rows, layer.weight, layer.bias)


@pytest.mark.parametrize(
    "shape", [(1, 256), (8, 1, 256), (3, 5, 256), (MOST_ROWS, 256), (MOST_ROWS + 1, 256)]
)
def test_rows_are_multiplied_as_torch_does(linear: Linear, shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape)
    with torch.no_grad():
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)
        assert_close(linear(rows[..., :1, :]), plainly(linear, rows[..., :1, :]), rtol=1e-5, atol=1e-5)


def test_a_weight_that_changed_in_place_or_was_loaded_is_seen(linear: Linear) -> None:
    rows = torch.randn(8, 256)
    with torch.no_grad():
        linear(rows)
        linear.weight.mul_(2)
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)
        linear.load_state_dict(Linear(256, 1024).state_dict())
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)


def test_the_packed_way_is_taken_for_few_rows_only_and_never_with_gradient(linear: Linear) -> None:
    linear(torch.randn(8, 256)).sum().backward()
    assert linear.weight.grad is not None and linear._packed is None
    with torch.no_grad():
        linear(torch.randn(MOST_ROWS + 1, 256))
        assert linear._packed is None
        linear(torch.randn(8, 256))
    assert linear._packed is not None, "this torch has lost the operation: imagination on a CPU is slower now"


def test_a_copy_has_weights_of_its_own(linear: Linear) -> None:
    rows = torch.randn(8, 256)
    with torch.no_grad():
        before = linear(rows)
        other = copy.deepcopy(linear)
        other.weight.zero_()
        assert_close(other(rows), other.bias.expand(8, -1))
        assert_close(linear(rows), before)
