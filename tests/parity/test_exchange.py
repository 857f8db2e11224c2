"""Whole agents from and to checkpoints of IRIS: every tensor, and one line about what does not fit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from irisflow import compositions, params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.errors import DataError
from irisflow.initialization.exchange import check_is_iris, import_agent, iris_tensors
from irisflow.params import Choice

NUM_ACTIONS = 4
ACTIONS = "world_model.embedder.embedding_tables.0.weight"
BESIDE = {
    "tokenizer.lpips.lin0.model.1.weight": torch.rand(1, 64, 1, 1),
    "world_model.transformer.blocks.0.attn.mask": torch.ones(2, 2).tril(),
    "world_model.head_rewards.indices": torch.arange(5),
}


def agent(seed: int, *, num_actions: int = NUM_ACTIONS) -> Agent:
    torch.manual_seed(seed)
    return build_agent(params.compose(Choice("smoke", variant="iris")), num_actions=num_actions)


def checkpoint(path: Path, **changes: Tensor | None) -> Path:
    """Write an agent's checkpoint as IRIS saves it, some tensors changed, or left out if None."""
    tensors = {
        **{name: tensor.clone() for name, tensor in iris_tensors(agent(1)).items()},
        **BESIDE,
        **changes,
    }
    torch.save({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    return path


def test_an_agent_comes_back_from_a_checkpoint_with_every_bit_and_what_was_beside_it(tmp_path: Path) -> None:
    imported = agent(2)
    beside = import_agent(imported, checkpoint(tmp_path / "last.pt"), game="Breakout")
    assert beside.keys() == BESIDE.keys() and all(torch.equal(beside[name], BESIDE[name]) for name in BESIDE)
    expected, found = iris_tensors(agent(1)), iris_tensors(imported)
    assert list(expected) == list(found)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    mine = agent(1).state_dict()
    assert all(torch.equal(tensor, mine[name]) for name, tensor in imported.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({ACTIONS: torch.rand(6, 32)}, "6 actions; Breakout has 4. Name its own game with --game"),
        ({"world_model.pos_emb.weight": None}, "lacks world_model.pos_emb.weight"),
        (
            {"world_model.pos_emb.weight": torch.rand(3, 3)},
            r"pos_emb.weight is \(3, 3\) torch.float32, expected",
        ),
        ({"actor_critic.conv1.bias": torch.zeros(8).half()}, "torch.float16, expected"),
        (
            {"actor_critic.conv9.bias": torch.zeros(1)},
            "holds actor_critic.conv9.bias, which IRIS's agent does not",
        ),
        ({"optimizer.state": torch.zeros(1)}, "holds optimizer.state"),
        ({"world_model.transformer.ln_f.bias": torch.full((32,), torch.nan)}, "not finite"),
    ],
)
def test_what_is_no_such_agent_is_refused_and_nothing_is_loaded(
    tmp_path: Path, changes: dict[str, Tensor | None], said: str
) -> None:
    fresh = agent(2)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    width = iris_tensors(fresh)[ACTIONS].shape[1]
    changes = {
        name: torch.rand(len(t), width) if name == ACTIONS and t is not None else t
        for name, t in changes.items()
    }
    with pytest.raises(DataError, match=said) as error:
        import_agent(fresh, checkpoint(tmp_path / "last.pt", **changes), game="Breakout")
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


def test_only_an_agent_with_the_parts_of_iris_can_be_written() -> None:
    check_is_iris(compositions.values(Choice("smoke", variant="iris")))
    for variant, key in (
        ("backbone_gru", "world_model.backbone.name is gru"), ("quantizer_fsq", "tokenizer.quantizer.name is fsq"),
        ("policy_on_tokens", "actor_critic.name is cnn_lstm_tokens"),
        ("reward_symlog_twohot", "world_model.reward.name is symlog"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=key):
            check_is_iris(compositions.values(Choice("smoke", variant=variant)))
