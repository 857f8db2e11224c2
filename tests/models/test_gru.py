"""The backbone `gru` against a slow loop over the equations of a gated recurrent unit."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.training.optim import has_decay
from irisflow.world_model.backbones.gru import GRU

WIDTH = 8
SETTINGS = {
    "name": "gru",
    "num_layers": 2,
    "embed_dim": WIDTH,
    "hidden_multiple": 2.0,
    "embed_pdrop": 0.1,
    "resid_pdrop": 0.1,
}


def build(**changes: float | str) -> GRU:
    torch.manual_seed(0)
    backbone: GRU = variants.build("backbone", {**SETTINGS, **changes}).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return backbone


def by_the_equations(gru: torch.nn.GRU, inputs: Tensor) -> Tensor:
    """Return the states (time, hidden) of one sequence: Cho et al. 2014, equations 5 to 8, in torch's form."""
    in_r, in_z, in_n = gru.weight_ih_l0.chunk(3)
    re_r, re_z, re_n = gru.weight_hh_l0.chunk(3)
    a_r, a_z, a_n = gru.bias_ih_l0.chunk(3)
    b_r, b_z, b_n = gru.bias_hh_l0.chunk(3)
    state, states = torch.zeros(gru.hidden_size), []
    for x in inputs:
        reset = torch.sigmoid(in_r @ x + a_r + re_r @ state + b_r)
        update = torch.sigmoid(in_z @ x + a_z + re_z @ state + b_z)
        candidate = torch.tanh(in_n @ x + a_n + reset * (re_n @ state + b_n))
        state = update * state + (1 - update) * candidate
        states.append(state)
    return torch.stack(states)


def test_outputs_are_those_of_residual_blocks_of_the_published_unit() -> None:
    backbone, tokens = build(), torch.randn(2, 9, WIDTH)
    x = tokens[1]
    for block in backbone.blocks:
        states = by_the_equations(block.gru, block.norm(x))
        x = x + states @ block.out.weight.T + block.out.bias
    assert_close(backbone(tokens)[0][1], backbone.norm(x), rtol=1e-4, atol=1e-5)


def test_the_memory_has_one_size_however_much_was_seen() -> None:
    backbone, memory = build(), None
    for piece in torch.randn(2, 50, WIDTH).split([1, 30, 1, 18], dim=1):
        _, memory = backbone(piece, memory)
        assert [tuple(state.shape) for state in memory.layers] == [(2, 16), (2, 16)]
        assert [state.untyped_storage().nbytes() for state in memory.layers] == [2 * 16 * 4] * 2
    assert memory.length == 50


def test_no_gradient_flows_through_the_memory() -> None:
    backbone, past = build(), torch.randn(1, 4, WIDTH, requires_grad=True)
    _, memory = backbone(past)
    outputs, _ = backbone(torch.randn(1, 3, WIDTH), memory)
    assert torch.autograd.grad(outputs.sum(), past, allow_unused=True) == (None,)


def test_the_units_matrices_decay_and_their_biases_do_not() -> None:
    backbone = build()
    decays = {name for name, _ in backbone.named_parameters() if has_decay(backbone, name)}
    matrices = ("gru.weight_ih_l0", "gru.weight_hh_l0", "out.weight")
    assert decays == {f"blocks.{index}.{name}" for index in range(2) for name in matrices}


def test_an_attention_that_recurrence_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the backbone gru has no 'block_causal'. Allowed: causal"):
        build(attention="block_causal")
