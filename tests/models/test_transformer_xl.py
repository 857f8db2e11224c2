"""The backbone `transformer_xl` against a slow loop over the equations of Dai et al. 2019, section 3.3."""

from math import cos, sin, sqrt

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.training.optim import has_decay
from irisflow.world_model.backbones.base import branches_one_by_one
from irisflow.world_model.backbones.transformer_xl import TransformerXL

WIDTH, HEADS, MEMORY = 8, 2, 5
SETTINGS = {
    "name": "transformer_xl",
    "num_layers": 2,
    "num_heads": HEADS,
    "embed_dim": WIDTH,
    "hidden_multiple": 3.5,
    "memory_tokens": MEMORY,
    "embed_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
}


def build(**changes: float | str) -> TransformerXL:
    torch.manual_seed(0)
    backbone: TransformerXL = variants.build("backbone", {**SETTINGS, **changes}).double().eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return backbone


def random_tokens(length: int, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def relative_position(distance: int) -> Tensor:
    """Return a row of R: Vaswani et al. 2017, section 3.5."""
    row = torch.empty(WIDTH, dtype=torch.double)
    for i in range(WIDTH // 2):
        row[2 * i] = sin(distance / 10000 ** (2 * i / WIDTH))
        row[2 * i + 1] = cos(distance / 10000 ** (2 * i / WIDTH))
    return row


def attend(attention: torch.nn.Module, u: Tensor, v: Tensor, hidden: Tensor, with_memory: Tensor) -> Tensor:
    """Return the attention of one sequence: `hidden` (queries, width) are the last rows of `with_memory`."""
    w_q, w_ke, w_v = attention.qkv.weight.chunk(3)
    w_kr, size = attention.relative.weight, WIDTH // HEADS
    offset = len(with_memory) - len(hidden)
    rows = []
    for i in range(len(hidden)):
        seen = range(max(0, offset + i - MEMORY), offset + i + 1)
        mixed = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query = (w_q @ hidden[i])[part]
            scores = []
            for j in seen:
                key = (w_ke @ with_memory[j])[part]
                position = (w_kr @ relative_position(offset + i - j))[part]
                a, b = query @ key, query @ position
                c, d = u[head] @ key, v[head] @ position
                scores.append((a + b + c + d) / sqrt(size))
            odds = torch.stack(scores).exp()
            values = torch.stack([(w_v @ with_memory[j])[part] for j in seen])
            mixed.append((odds / odds.sum()) @ values)
        rows.append(attention.out.weight @ torch.cat(mixed))
    return torch.stack(rows)


def by_the_papers_equations(backbone: TransformerXL, segments: list[Tensor]) -> list[Tensor]:
    """Return the outputs of one sequence's segments: each layer keeps its last hidden inputs, without gradient."""
    memories: list[Tensor] = [torch.zeros(0, WIDTH, dtype=torch.double) for _ in backbone.blocks]
    outputs = []
    for hidden in segments:
        for index, block in enumerate(backbone.blocks):
            with_memory = torch.cat([memories[index].detach(), hidden])
            mixed = attend(block.attention, *backbone.biases, hidden, with_memory)
            memories[index] = with_memory[-MEMORY:]
            out = layer_norm(mixed + hidden, block.norm1)
            first, _, second = block.mlp
            wide = (out @ first.weight.T + first.bias).clamp(min=0)
            hidden = layer_norm(out + wide @ second.weight.T + second.bias, block.norm2)
        outputs.append(hidden)
    return outputs


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + norm.bias


@pytest.mark.parametrize("length", [4, 14])
def test_outputs_are_those_of_the_papers_equations_also_beyond_the_memory(length: int) -> None:
    backbone, tokens = build(), random_tokens(length)
    (expected,) = by_the_papers_equations(backbone, [tokens[1]])
    assert_close(backbone(tokens)[0][1], expected)


def test_segments_are_those_of_the_papers_recurrence_over_hidden_states() -> None:
    backbone, tokens, memory = build(), random_tokens(17, batch=1), None
    pieces = tokens.split([3, 1, 6, 1, 6], dim=1)
    expected = by_the_papers_equations(backbone, [piece[0] for piece in pieces])
    for piece, of_paper in zip(pieces, expected, strict=True):
        outputs, memory = backbone(piece, memory)
        assert_close(outputs[0], of_paper)


def test_gradients_stop_at_the_memory_and_are_the_papers_within_a_segment() -> None:
    backbone = build()
    past, present = (piece.clone().requires_grad_() for piece in random_tokens(9, batch=1).split([5, 4], 1))
    _, memory = backbone(past)
    outputs, _ = backbone(present, memory)
    assert torch.autograd.grad(outputs.sum(), past, allow_unused=True, retain_graph=True) == (None,)
    expected = by_the_papers_equations(backbone, [past[0], present[0]])[1]
    for ours, of_paper in zip(
        torch.autograd.grad(outputs.square().sum(), [present, backbone.biases]),
        torch.autograd.grad(expected.square().sum(), [present, backbone.biases]),
        strict=True,
    ):
        assert_close(ours, of_paper)


@pytest.mark.parametrize("chunk", [1, 4, 11])
def test_a_long_sequence_in_steps_is_one_pass_with_a_sliding_window(chunk: int) -> None:
    backbone, tokens, memory, outputs = build(), random_tokens(40), None, []
    for piece in tokens.split(chunk, dim=1):
        output, memory = backbone(piece, memory)
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=1), backbone(tokens)[0])


def test_a_token_sees_as_many_tokens_before_it_as_the_memory_holds_in_each_layer() -> None:
    tokens = random_tokens(20, batch=1).requires_grad_()
    for num_layers in (1, 2):
        outputs, _ = build(num_layers=num_layers)(tokens)
        (gradient,) = torch.autograd.grad(outputs[0, 15, 0], tokens)
        seen = gradient[0].abs().sum(-1) > 0
        assert seen.nonzero().flatten().tolist() == list(range(15 - num_layers * MEMORY, 16))


def test_branches_keep_to_the_sliding_window() -> None:
    backbone = build()
    tokens, queries = random_tokens(13).requires_grad_(), random_tokens(7, batch=1)[0].requires_grad_()
    trunk, branches = backbone.branch(tokens, queries, every=3)
    expected_trunk, expected = branches_one_by_one(backbone, tokens, queries, every=3)
    assert_close(trunk, expected_trunk)
    assert_close(branches, expected)
    ours = torch.autograd.grad(branches.square().sum(), [tokens, queries])
    slow = torch.autograd.grad(expected.square().sum(), [tokens, queries])
    for gradient, of_slow in zip(ours, slow, strict=True):
        assert_close(gradient, of_slow)


@torch.no_grad()
def test_without_gradients_steps_are_one_pass_too_and_a_given_up_continuation_leaves_no_trace() -> None:
    backbone, tokens, memory, outputs = build(), random_tokens(40), None, []
    for piece in tokens.split([7, *[1] * 14, 2, 12, *[1] * 5], dim=1):
        if memory is not None:
            backbone(random_tokens(9) + 1, memory)
        output, memory = backbone(piece, memory)
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=1), backbone(tokens)[0])


def test_the_memory_has_slots_for_two_memories_at_most_and_counts_all_tokens() -> None:
    backbone, memory = build(), None
    for piece in random_tokens(33).split([2, *[1] * 31], dim=1):
        _, memory = backbone(piece, memory)
        assert memory.layers[0].keys_values.shape[3] in (2, 2 * MEMORY)
    assert memory.length == 33


def test_the_two_biases_do_not_decay() -> None:
    backbone = build()
    assert not has_decay(backbone, "biases")
    assert has_decay(backbone, "blocks.0.attention.relative.weight")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "world_model.num_heads: 3 heads do not divide embed_dim 8"),
        ({"embed_dim": 7, "num_heads": 1}, "world_model.embed_dim: 7 is odd. Allowed: an even width"),
        ({"attention": "block_causal"}, "the backbone transformer_xl has no 'block_causal'. Allowed: causal"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**changes)
