"""The resume state of a training run: tensors as safetensors, the rest as JSON, replaced by one rename."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from irisflow.errors import DataError
from irisflow.storage import open_artefact, publish_folder, recover_folder

KIND = "checkpoint"
TENSOR = "$tensor"  # stands in the JSON where an array was


def save_checkpoint(folder: Path, state: dict[str, Any], *, digest: str) -> None:
    """Replace the checkpoint in `folder`; a kill at any instant leaves the old one or the new one.

    `state` is nested dicts and lists of arrays, tensors and JSON-able values. Raises ResourceError where there is no space.
    """
    tensors: dict[str, Tensor] = {}
    # Keys keep their order: a resumed run writes its metrics in the order of one that was not stopped.
    rest = json.dumps(pack(state, tensors), allow_nan=False).encode()
    files = {"tensors.safetensors": save(tensors), "state.json": rest}
    publish_folder(folder, files, kind=KIND, digest=digest, about={"epoch": state.get("epoch")})


def load_checkpoint(folder: Path, *, digest: str) -> dict[str, Any] | None:
    """Return the state that `save_checkpoint` wrote, arrays as tensors, or None if there is no checkpoint yet.

    Raises DataError if one is there but damaged, or made from another configuration.
    """
    recover_folder(folder)
    if not folder.exists():
        return None
    artefact = open_artefact(folder, kind=KIND)
    if artefact.digest != digest:
        raise DataError(
            f"checkpoint {folder} was made from another configuration (digest {artefact.digest}, now {digest})."
            " Delete it to start anew."
        )
    tensors = load(artefact.read("tensors.safetensors"))
    state = unpack(json.loads(artefact.read("state.json")), tensors)
    assert isinstance(state, dict)
    return state


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's moments by parameter index; its hyperparameters come from the configuration."""
    return {str(index): state for index, state in optimizer.state_dict()["state"].items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what `optimizer_state` returned."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {int(i): s for i, s in state.items()}, "param_groups": groups})


def pack(state: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """Return nested state as JSON-able data; its arrays and tensors go into `tensors` under their path."""
    if isinstance(state, dict):
        return {key: pack(value, tensors, f"{path}.{key}") for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [pack(value, tensors, f"{path}.{index}") for index, value in enumerate(state)]
    if isinstance(state, np.ndarray):
        state = torch.from_numpy(np.array(state, order="C"))
    if isinstance(state, Tensor):
        tensors[path] = state.detach().cpu().contiguous()
        return {TENSOR: path}
    return state


def unpack(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the nested state that `pack` took apart; every array comes back as a tensor."""
    if isinstance(data, dict):
        if TENSOR in data:
            return tensors[data[TENSOR]]
        return {key: unpack(value, tensors) for key, value in data.items()}
    return [unpack(value, tensors) for value in data] if isinstance(data, list) else data


def as_arrays(state: Any) -> Any:
    """Return nested state with NumPy arrays in place of tensors."""
    if isinstance(state, dict):
        return {key: as_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [as_arrays(value) for value in state]
    return state.numpy() if isinstance(state, Tensor) else state
