"""The actor-critics' LSTM cell is torch's, in one part and in two."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from irisflow.behaviour.actor_critics._lstm import LSTMCell

SIZES = [(1024, 512), (48, 32)]  # packed by oneDNN, and not


@pytest.fixture(params=SIZES, ids=str)
def cells(request: pytest.FixtureRequest) -> tuple[LSTMCell, nn.LSTMCell]:
    """Return ours and torch's, of the same seed."""
    made = []
    for kind in (LSTMCell, nn.LSTMCell):
        torch.manual_seed(0)
        made.append(kind(*request.param))
    return made[0], made[1]


def test_a_seed_makes_the_same_weights_under_the_same_names(cells: tuple[LSTMCell, nn.LSTMCell]) -> None:
    ours, torchs = (cell.state_dict() for cell in cells)
    assert list(ours) == list(torchs)
    assert all(torch.equal(ours[name], torchs[name]) for name in ours)


def given_of(cell: LSTMCell, inputs: Tensor) -> tuple[Tensor, ...]:
    """Return what the gates are given at each step, worked out for all of them together."""
    return cell.given(inputs.flatten(0, 1)).view(*inputs.shape[:2], -1).unbind(1)


@pytest.mark.parametrize("has_gradient", [False, True])
def test_steps_are_torchs_with_their_gradients(
    cells: tuple[LSTMCell, nn.LSTMCell], has_gradient: bool
) -> None:
    ours, torchs = cells
    torch.manual_seed(1)
    inputs = torch.randn(8, 5, ours.input_size)
    with torch.set_grad_enabled(has_gradient):
        state = other = (torch.randn(8, ours.hidden_size), torch.randn(8, ours.hidden_size))
        for given, one in zip(given_of(ours, inputs), inputs.unbind(1), strict=True):
            state, other = ours.step(given, state), torchs(one, other)
            assert_close(state, other, rtol=1e-5, atol=1e-5)
            assert_close(ours(one, other), torchs(one, other), rtol=1e-5, atol=1e-5)
    if has_gradient:
        for (name, weight), torch_weight in zip(ours.named_parameters(), torchs.parameters(), strict=True):
            (found,) = torch.autograd.grad(state[0].square().sum(), weight, retain_graph=True)
            (expected,) = torch.autograd.grad(other[0].square().sum(), torch_weight, retain_graph=True)
            assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=name)


def test_weights_that_changed_are_seen_and_copies_carry_none_packed(
    cells: tuple[LSTMCell, nn.LSTMCell],
) -> None:
    ours, torchs = cells
    inputs, size = torch.randn(8, ours.input_size), len(pickle.dumps(ours))
    state = (torch.zeros(8, ours.hidden_size), torch.zeros(8, ours.hidden_size))
    with torch.no_grad():
        ours(inputs, state)
        assert len(pickle.dumps(ours)) == size
        ours.weight_ih.mul_(2)
        torchs.weight_ih.mul_(2)
        for cell in (ours, copy.deepcopy(ours)):
            assert_close(cell(inputs, state), torchs(inputs, state), rtol=1e-5, atol=1e-5)
