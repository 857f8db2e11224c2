"""Retention against the recurrence of equations 1 to 4 in complex numbers, and its three forms against each other."""

import math

import pytest
import torch
from parts import settings_of
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.world_model.backbones.retnet import (
    Retention,
    RetNet,
    chunkwise,
    decay_matrix,
    parallel,
    recurrent,
)

HEADS, EMBED = 2, 16
SIZES = {
    "name": "retnet",
    "num_layers": 2,
    "num_heads": HEADS,
    "embed_dim": EMBED,
    "embed_pdrop": 0.0,
    "resid_pdrop": 0.0,
}


def build(**changes: object) -> RetNet:
    torch.manual_seed(0)
    backbone: RetNet = variants.build("backbone", {**SIZES, **changes}).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def without_epsilon(backbone: RetNet) -> RetNet:
    """Return the backbone with group norms that undo every scale, be it ever so small."""
    for block in backbone.blocks:
        block.retention.norm.eps = 1e-20
    return backbone


def gammas(heads: int = HEADS) -> list[float]:
    return [1 - 2.0 ** (-5 - head) for head in range(heads)]


def projections(length: int = 13) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return queries, keys, values and the logarithms of gamma, in float64."""
    draws = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, 3, HEADS, length, 4, generator=draws, dtype=torch.float64)
    values = torch.randn(3, HEADS, length, 6, generator=draws, dtype=torch.float64)
    return queries, keys, values, torch.tensor(gammas(), dtype=torch.float64).log()


def causal(length: int, log_gamma: Tensor) -> Tensor:
    positions = torch.arange(length)
    return decay_matrix(positions, positions[:, None] >= positions, log_gamma)


def test_the_parallel_form_is_the_sum_over_the_decayed_past() -> None:
    queries, keys, values, log_gamma = projections()
    retained = parallel(queries, keys, values, causal(13, log_gamma))
    for head, gamma in enumerate(gammas()):
        for n in range(13):
            expected = sum(
                gamma ** (n - m)
                * (queries[:, head, n] * keys[:, head, m]).sum(-1, keepdim=True)
                * values[:, head, m]
                for m in range(n + 1)
            )
            assert_close(retained[:, head, n], expected)


def test_the_recurrent_form_agrees_with_the_parallel_one() -> None:
    queries, keys, values, log_gamma = projections()
    state, outputs = None, []
    for n in range(13):
        one = (part[:, :, n : n + 1] for part in (queries, keys, values))
        output, state = recurrent(*one, log_gamma, state)
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=2), parallel(queries, keys, values, causal(13, log_gamma)))


@pytest.mark.parametrize("size", [2, 5, 13, 20])
def test_the_chunkwise_form_agrees_with_the_parallel_and_the_recurrent_one(size: int) -> None:
    queries, keys, values, log_gamma = projections()
    decay = causal(size, log_gamma)
    retained, state = chunkwise(queries, keys, values, decay, log_gamma, None)
    assert_close(retained, parallel(queries, keys, values, causal(13, log_gamma)))
    by_token = None
    for n in range(13):
        _, by_token = recurrent(
            *(part[:, :, n : n + 1] for part in (queries, keys, values)), log_gamma, by_token
        )
    assert_close(state, by_token)
    _, middle = chunkwise(*(part[:, :, :4] for part in (queries, keys, values)), decay, log_gamma, None)
    late, end = chunkwise(*(part[:, :, 4:] for part in (queries, keys, values)), decay, log_gamma, middle)
    assert_close(late, retained[:, :, 4:])
    assert_close(end, by_token)


def naive_retention(layer: Retention, x: Tensor) -> Tensor:
    """Return gated multi-scale retention by equation 1 with A = gamma e^(i theta), pairs being complex numbers.

    None of the normalisations of section 2.1: the group norm makes them unnecessary.
    """
    length, key_width, value_width = len(x), EMBED // HEADS, 2 * EMBED // HEADS
    theta = torch.tensor([10_000 ** (-2 * pair / key_width) for pair in range(key_width // 2)])
    outputs = torch.zeros(length, HEADS, value_width, dtype=torch.float64)
    for head, gamma in enumerate(gammas()):
        rows = slice(head * key_width, (head + 1) * key_width)
        q, k = ((x @ linear.weight[rows].T).reshape(length, -1, 2) for linear in (layer.query, layer.key))
        v = x @ layer.value.weight[head * value_width : (head + 1) * value_width].T
        q, k = torch.view_as_complex(q.contiguous()), torch.view_as_complex(k.contiguous())
        turn = torch.polar(torch.full_like(theta, gamma).double(), theta.double())
        state = torch.zeros(key_width // 2, value_width, dtype=torch.complex128)
        for n in range(length):
            state = turn[:, None] * state + k[n].conj()[:, None] * v[n]
            outputs[n, head] = (q[n][:, None] * state).sum(0).real
    centred = outputs - outputs.mean(-1, keepdim=True)
    normalised = (centred / centred.pow(2).mean(-1, keepdim=True).sqrt()).reshape(length, -1)
    normalised = normalised * layer.norm.weight + layer.norm.bias
    gate = x @ layer.gate.weight.T
    return (gate * torch.sigmoid(gate) * normalised) @ layer.out.weight.T


def naive_pass(backbone: RetNet, x: Tensor) -> Tensor:
    """Return equation 9, layer by layer."""
    for block in backbone.blocks:
        y = naive_retention(block.retention, block.norm1(x)) + x
        wide = block.norm2(y) @ block.widen.weight.T
        x = (0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))) @ block.narrow.weight.T + y
    return backbone.norm(x)


@torch.no_grad()
def test_a_pass_is_the_papers_recurrence_without_any_normalisation_of_scores() -> None:
    backbone = without_epsilon(build().double())
    embeddings = torch.randn(1, 40, EMBED, dtype=torch.float64)
    outputs, _ = backbone(embeddings)
    assert_close(outputs[0], naive_pass(backbone, embeddings[0]), rtol=1e-5, atol=1e-5)


def test_heads_forget_at_the_papers_rates() -> None:
    assert_close(build().log_gamma.exp(), torch.tensor([31 / 32, 63 / 64]))


def test_a_piece_longer_than_a_chunk_gives_the_same_outputs_and_gradients() -> None:
    whole, chunked = build(), build(chunk_tokens=7)
    embeddings = torch.randn(2, 30, EMBED, requires_grad=True)
    outputs = [backbone(embeddings)[0] for backbone in (whole, chunked)]
    assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(output[:, -1].square().sum(), embeddings)[0] for output in outputs]
    assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)
    assert gradients[1][:, 0].abs().max() > 1e-6


@torch.no_grad()
def test_a_layer_weighs_what_a_transformers_does() -> None:
    linears = [p for p in build(num_layers=1).parameters() if p.ndim == 2]
    assert sum(p.numel() for p in linears) == 12 * EMBED**2


@torch.no_grad()
def test_a_token_far_out_is_retained_as_one_at_the_start() -> None:
    """Only differences of positions matter."""
    backbone = without_epsilon(build())
    embeddings = torch.randn(1, 4, EMBED)
    near, far = (
        backbone.blocks[0].retention(
            embeddings, backbone._contiguous(start, start + 4), backbone.log_gamma, None
        )[0]
        for start in (0, 1_000_000)
    )
    assert_close(near, far, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 16}, "16 heads do not divide embed_dim 16 into even widths"),
        ({"attention": "block_causal"}, "the backbone retnet has no 'block_causal'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**change)


def test_the_settings_file_names_every_field() -> None:
    assert set(settings_of("backbone", "retnet")) == {*SIZES, "attention", "chunk_tokens"}
