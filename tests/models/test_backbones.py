"""The contract of `world_model/backbones/base.py`, for every backbone that there is."""

import pytest
import torch
from parts import settings_of
from torch.testing import assert_close

from irisflow import variants
from irisflow.training.optim import decay_groups
from irisflow.world_model.backbones.base import Backbone, branches_one_by_one

BACKBONES = variants.available("backbone")
BLOCK, NUM_BLOCKS = 17, 4


def build(name: str, *overrides: str) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = variants.build("backbone", settings_of("backbone", name, *overrides)).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # no zeros or symmetries of the start
    return backbone


def embedded(backbone: Backbone, length: int, *, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, length, backbone.embed_dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("chunk", [1, 3, 17])
def test_stepwise_outputs_match_one_pass(name: str, chunk: int) -> None:
    backbone = build(name)
    embeddings = embedded(backbone, BLOCK * NUM_BLOCKS)
    one_pass, _ = backbone(embeddings)
    memory, outputs = None, []
    for piece in embeddings.split(chunk, dim=1):
        output, memory = backbone(piece, memory)
        assert memory.length == sum(done.shape[1] for done in outputs) + piece.shape[1]
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=1), one_pass, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_memory_can_be_continued_again_once_the_first_continuation_is_given_up(name: str) -> None:
    backbone = build(name)
    past, discarded, kept = embedded(backbone, 3 * BLOCK).split(BLOCK, dim=1)
    for past_in_pieces in (past.split(BLOCK, dim=1), past.split(5, dim=1)):
        memory = None
        for piece in past_in_pieces:
            _, memory = backbone(piece, memory)
        backbone(discarded, memory)
        outputs, memory = backbone(kept, memory)
        expected, _ = backbone(torch.cat([past, kept], dim=1))
        assert_close(outputs, expected[:, BLOCK:], rtol=1e-4, atol=1e-5)
        assert memory.length == 2 * BLOCK


@pytest.mark.parametrize("name", BACKBONES)
def test_no_output_depends_on_the_future(name: str) -> None:
    backbone = build(name)
    embeddings = embedded(backbone, 20, batch=1).requires_grad_()
    (gradient,) = torch.autograd.grad(backbone(embeddings)[0][:, 7, 0].sum(), embeddings)
    assert gradient[:, :8].abs().sum(-1).min() > 1e-9
    assert not gradient[:, 8:].any()


@pytest.mark.parametrize("name", BACKBONES)
def test_branches_are_what_one_pass_for_each_gives(name: str) -> None:
    backbone = build(name)
    embeddings = embedded(backbone, BLOCK * NUM_BLOCKS).requires_grad_()
    queries = embedded(backbone, 16, batch=1)[0].requires_grad_()
    trunk, branches = backbone.branch(embeddings, queries, every=BLOCK)
    expected_trunk, expected = branches_one_by_one(backbone, embeddings, queries, every=BLOCK)
    assert branches.shape == (2, NUM_BLOCKS - 1, 16, backbone.embed_dim)
    assert_close(trunk, expected_trunk, rtol=1e-4, atol=1e-5)
    assert_close(branches, expected, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(branches.square().sum(), [embeddings, queries])
    of_slow = torch.autograd.grad(expected.square().sum(), [embeddings, queries])
    for gradient, slow in zip(gradients, of_slow, strict=True):
        assert_close(gradient, slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_one_block_alone_has_no_branches(name: str) -> None:
    backbone = build(name)
    trunk, branches = backbone.branch(
        embedded(backbone, BLOCK), embedded(backbone, 16, batch=1)[0], every=BLOCK
    )
    assert branches.shape == (2, 0, 16, backbone.embed_dim)
    assert_close(trunk, backbone(embedded(backbone, BLOCK))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_all_parameters_learn_and_the_optimizer_knows_which_decay(name: str) -> None:
    backbone = build(name).train()
    backbone(embedded(backbone, 2 * BLOCK))[0].square().sum().backward()
    learning = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert [name for name, p in learning.items() if p.grad is None or not p.grad.any()] == []
    groups = decay_groups(backbone, weight_decay=0.01)
    assert sum(len(group["params"]) for group in groups) == len(learning)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_same_seed_builds_the_same_weights_and_they_are_saved_and_loaded(name: str) -> None:
    one, other = build(name), build(name)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(one.state_dict())
    embeddings = embedded(one, 2 * BLOCK)
    assert torch.equal(one(embeddings)[0], other(embeddings)[0])
    assert torch.equal(build(name)(embeddings)[0], one(embeddings)[0])
