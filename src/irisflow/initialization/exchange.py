"""Whole agents to and from IRIS's checkpoints: every tensor by its name there, none changed, none dropped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irisflow.errors import DataError
from irisflow.initialization.foreign import OWN_LOSS, read_foreign
from irisflow.initialization.reference_names import LEFT_OUT, from_reference, to_reference

PARTS = ("tokenizer", "world_model", "actor_critic")
OF_ACTIONS = ("world_model.embedder.embedding_tables.0.weight", "actor_critic.actor_linear.weight")
IRIS = {
    "tokenizer.quantizer.name": "vq", "world_model.backbone.name": "gpt", "world_model.prediction.name": "autoregressive",
    "world_model.reward.name": "sign", "world_model.actions": "game", "actor_critic.name": "cnn_lstm",
}  # fmt: skip
IRIS_PARTS = "the variant `iris` at scale `full`, or with sizes changed to the checkpoint's"


def import_agent(agent: nn.Module, path: Path, *, game: str) -> dict[str, Tensor]:
    """Load all weights of an IRIS checkpoint into an agent and return what it holds beside them, by its names.

    That is what IRIS saves and no training decides: LPIPS, attention masks, index buffers. Raises DataError, and leaves the
    agent as it was, unless every tensor of the agent is there with its shape in float32 and nothing unknown beside.
    """
    tensors = read_foreign(path)
    expected = iris_tensors(agent)
    _check_actions(path, expected, tensors, game)
    for name in sorted(expected.keys() | tensors.keys()):
        _check(path, name, expected.get(name), tensors.get(name))
    for part in PARTS:
        module = getattr(agent, part)
        theirs = {name: tensors[f"{part}.{name}"] for name in to_reference(part, _weights(module))}
        module.load_state_dict({**module.state_dict(), **from_reference(part, theirs)})
    return {name: tensor for name, tensor in tensors.items() if name not in expected}


def iris_tensors(agent: nn.Module) -> dict[str, Tensor]:
    """Return an agent's weights by the names that they have in IRIS's checkpoints, in the agent's order."""
    return {
        f"{part}.{name}": tensor
        for part in PARTS
        for name, tensor in to_reference(part, _weights(getattr(agent, part))).items()
    }


def check_is_iris(values: Mapping[str, Any]) -> None:
    """Raise DataError unless an agent of this configuration, as plain data, has the parameters of IRIS's, and no others."""
    for key, expected in IRIS.items():
        found: Any = values
        for part in key.split("."):
            found = found[part]
        if found != expected:
            raise DataError(
                f"{key} is {found}; a checkpoint of IRIS has {expected} there. Allowed: an agent of {IRIS_PARTS}."
            )


def _check_actions(
    path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], game: str
) -> None:
    """Raise DataError for an agent of a game with another number of actions."""
    for name in OF_ACTIONS:
        here, there = expected[name], found.get(name)
        if there is not None and there.shape[1:] == here.shape[1:] and len(there) != len(here):
            raise DataError(
                f"{path} is an agent with {len(there)} actions; {game} has {len(here)}. Name its own game with --game."
            )


def _check(path: Path, name: str, expected: Tensor | None, found: Tensor | None) -> None:
    allowed = f"Allowed: a checkpoint of IRIS made with these sizes ({IRIS_PARTS})"
    if expected is None:
        part, _, rest = name.partition(".")
        if part not in PARTS or not LEFT_OUT.fullmatch(rest):
            raise DataError(f"{path} holds {name}, which IRIS's agent does not have. {allowed}.")
    elif found is None:
        raise DataError(f"{path} lacks {name}. {allowed}.")
    elif found.shape != expected.shape or found.dtype != torch.float32:
        shapes = f"{tuple(found.shape)} {found.dtype}, expected {tuple(expected.shape)} torch.float32"
        raise DataError(f"{path}: {name} is {shapes}. {allowed}.")
    elif not bool(torch.isfinite(found).all()):
        raise DataError(f"{path}: {name} holds a number that is not finite. Allowed: a sound agent.")


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Return a part's weights without the networks of its loss."""
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(OWN_LOSS)}
