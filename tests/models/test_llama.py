"""The backbone `llama` against transformers' LlamaModel with the same weights."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.training.optim import decay_groups
from irisflow.world_model.backbones.base import branches_one_by_one
from irisflow.world_model.backbones.llama import Llama, Rotation

SETTINGS = {
    "name": "llama",
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "embed_dim": 32,
    "hidden_multiple": 3.0,
    "rope_theta": 500.0,
    "embed_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "max_tokens": 40,
}


def build(**changes: float | str) -> Llama:
    torch.manual_seed(0)
    backbone: Llama = variants.build("backbone", {**SETTINGS, **changes}).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return backbone


def published(backbone: Llama, *, num_kv_heads: int) -> torch.nn.Module:
    """Return transformers' model with the backbone's weights, copied by name."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=1,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=40,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        attn_implementation="eager",
    )
    model = LlamaModel(config).eval()
    model.load_state_dict({**published_weights(backbone), "embed_tokens.weight": torch.zeros(1, 32)})
    return model


def published_weights(backbone: Llama) -> dict[str, Tensor]:
    weights = {"norm.weight": backbone.norm.weight}
    for index, block in enumerate(backbone.blocks):
        attention = block.attention
        query, key, value = attention.qkv.weight.split(
            [8 * n for n in (attention.num_heads, attention.num_kv_heads, attention.num_kv_heads)]
        )
        gate, up = block.mlp.gate_up.weight.chunk(2)
        of_layer = {
            "input_layernorm": block.norm1.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": attention.out.weight,
            "post_attention_layernorm": block.norm2.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.mlp.down.weight,
        }
        weights |= {f"layers.{index}.{name}.weight": weight for name, weight in of_layer.items()}
    return weights


@pytest.mark.slow  # importing transformers takes its time
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_outputs_are_those_of_transformers_llama_with_the_same_weights(num_kv_heads: int) -> None:
    backbone, embeddings = build(num_kv_heads=num_kv_heads), torch.randn(2, 40, 32)
    expected = published(backbone, num_kv_heads=num_kv_heads)(inputs_embeds=embeddings).last_hidden_state
    assert_close(backbone(embeddings)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_steps_are_those_of_transformers_llama_with_its_own_cache() -> None:
    backbone, memory, cache = build(), None, None
    model = published(backbone, num_kv_heads=2)
    for piece in torch.randn(2, 40, 32).split([13, 1, 1, 5, 20], dim=1):
        outputs, memory = backbone(piece, memory)
        expected = model(inputs_embeds=piece, past_key_values=cache, use_cache=True)
        cache = expected.past_key_values
        assert_close(outputs, expected.last_hidden_state, rtol=1e-4, atol=1e-5)


def test_branches_with_shared_keys_are_what_one_pass_for_each_gives() -> None:
    backbone, embeddings, queries = build(), torch.randn(2, 34, 32), torch.randn(6, 32)
    trunk, branches = backbone.branch(embeddings, queries, every=7)
    expected_trunk, expected = branches_one_by_one(backbone, embeddings, queries, every=7)
    assert branches.shape == (2, 4, 6, 32)
    assert_close(trunk, expected_trunk, rtol=1e-4, atol=1e-5)
    assert_close(branches, expected, rtol=1e-4, atol=1e-5)


def test_scores_depend_on_the_distance_of_two_tokens_only() -> None:
    backbone, tokens = build(num_layers=1), torch.randn(1, 3, 32)
    heads = backbone.blocks[0].attention.qkv(tokens).unflatten(-1, (8, 8)).transpose(1, 2)
    rotations = [
        Rotation(backbone.cosines[start : start + 3], backbone.sines[start : start + 3]) for start in (0, 30)
    ]
    early, late = (rotation(heads) @ rotation(heads).transpose(2, 3) for rotation in rotations)
    assert_close(early, late, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(early, heads @ heads.transpose(2, 3), atol=0.1)


def test_the_cache_holds_the_shared_heads_only_and_is_filled_in_place() -> None:
    backbone = build()
    _, memory = backbone(torch.randn(2, 5, 32))
    assert {tuple(kept.shape) for layer in memory.layers for kept in layer} == {(2, 2, 5, 8)}
    _, first = backbone(torch.randn(2, 1, 32), memory)
    _, second = backbone(torch.randn(2, 1, 32), first)
    assert {tuple(kept.shape) for layer in second.layers for kept in layer} == {(2, 2, 40, 8)}
    assert first.layers[0][0].data_ptr() == second.layers[0][0].data_ptr()


def test_no_gradient_flows_through_the_memory() -> None:
    backbone, past = build(), torch.randn(1, 4, 32, requires_grad=True)
    _, memory = backbone(past)
    outputs, _ = backbone(torch.randn(1, 3, 32), memory)
    assert torch.autograd.grad(outputs.sum(), past, allow_unused=True) == (None,)


def test_norms_do_not_decay_and_matrices_do() -> None:
    decaying, other = decay_groups(build(), weight_decay=0.01)
    assert (len(decaying["params"]), len(other["params"])) == (2 * 4, 2 * 2 + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "world_model.num_heads: 3 heads do not divide embed_dim 32"),
        (
            {"num_kv_heads": 3},
            r"world_model.backbone.num_kv_heads: 3 does not divide world_model.num_heads, 4",
        ),
        ({"num_heads": 32}, "world_model.embed_dim: 32 gives heads of width 1. Allowed: an even width"),
        ({"attention": "block_causal"}, "world_model.attention: the backbone llama has no 'block_causal'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**changes)


def test_a_sequence_beyond_the_window_is_refused() -> None:
    backbone = build()
    _, memory = backbone(torch.randn(1, 39, 32))
    with pytest.raises(ConfigError, match="sequence of 41 tokens exceeds the window of 40"):
        backbone(torch.randn(1, 2, 32), memory)
