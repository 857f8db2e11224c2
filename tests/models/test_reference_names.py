import pytest
import torch
from sizes import FULL_POLICY, FULL_TOKENIZER, FULL_WORLD_MODEL
from torch import nn

from irisflow import variants
from irisflow.errors import DataError
from irisflow.initialization.reference_names import from_reference, to_reference
from irisflow.tokenizer.tokenizer import build_tokenizer
from irisflow.world_model.world_model import build_world_model


def full_sized(component: str) -> nn.Module:
    with torch.device("meta"):
        if component == "tokenizer":
            return build_tokenizer(FULL_TOKENIZER)
        if component == "world_model":
            return build_world_model(FULL_WORLD_MODEL, vocab_size=512, num_actions=4, tokens_per_frame=16)
        return variants.build("actor_critic", FULL_POLICY, num_actions=4, resolution=64, code_map=(1, 1, 1))


@pytest.mark.parametrize("component", ["tokenizer", "world_model", "actor_critic"])
def test_full_sized_weights_go_there_and_back(component: str) -> None:
    ours = full_sized(component).state_dict()
    theirs = to_reference(component, ours)
    words = {word for name in theirs for word in name.split(".")}
    assert not words & {"qkv", "levels", "blocks_", "backbone", "prediction", "quantizer", "convolutions"}
    back = from_reference(component, theirs)
    assert {name: tensor.shape for name, tensor in back.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }


def test_query_key_and_value_keep_their_order() -> None:
    names = [f"transformer.blocks.3.attn.{word}.weight" for word in ("value", "key", "query")]
    theirs = {name: torch.full((2, 2), float(index)) for index, name in enumerate(names)}
    ours = from_reference("world_model", theirs)
    assert ours["backbone.blocks.3.attention.qkv.weight"][:, 0].tolist() == [2, 2, 1, 1, 0, 0]
    assert all(torch.equal(to_reference("world_model", ours)[name], theirs[name]) for name in names)


def test_what_published_checkpoints_hold_beside_the_model_is_left_out() -> None:
    tensor = torch.zeros(1)
    extra = {"lpips.lin0.model.1.weight": tensor, "lpips.net.slice1.0.bias": tensor}
    assert from_reference("tokenizer", extra) == {}
    extra = {"transformer.blocks.0.attn.mask": tensor, "head_ends.indices": tensor}
    assert from_reference("world_model", extra) == {}


def test_a_missing_key_is_named() -> None:
    theirs = {f"encoder.mid.attn_1.{word}.bias": torch.zeros(1) for word in ("q", "v")}
    with pytest.raises(DataError, match=r"but not encoder\.mid\.attn_1\.k\.bias"):
        from_reference("tokenizer", theirs)
