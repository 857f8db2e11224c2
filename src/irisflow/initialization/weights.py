"""Weights from artefacts: verified, checked against the model, then loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from irisflow.errors import DamageError, DataError
from irisflow.identity import open_own


def load_weights(module: nn.Module, folder: Path, *, kind: str, part: str | None = None) -> dict[str, Any]:
    """Load an artefact's weights into a module and return what the artefact says of itself.

    They are all of `<kind>.safetensors`, or the part of an agent that `part` names. Raises DataError if the artefact is
    missing, damaged, or does not fit: then nothing was loaded.
    """
    artefact = open_own(folder, kind=kind)
    path = folder / f"{kind}.safetensors"
    try:
        tensors = load(artefact.read(path.name))
    except SafetensorError as error:
        raise DamageError(f"{path} is no safetensors file: {error}.", path, "unreadable") from None
    if part is not None:
        tensors = {
            name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")
        }
    check_fit(module.state_dict(), tensors, path)
    module.load_state_dict(tensors)
    return artefact.about


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise DataError naming the first tensor that is missing, unknown, or of another shape or type."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise DataError(f"{path} lacks {name}: it was made with other sizes or by another version.")
        if name not in expected:
            raise DataError(
                f"{path} holds {name}, which this model does not have: other sizes or another version."
            )
        if expected[name].shape != found[name].shape or expected[name].dtype != found[name].dtype:
            raise DataError(
                f"{path}: {name} is {tuple(found[name].shape)} {found[name].dtype}, expected"
                f" {tuple(expected[name].shape)} {expected[name].dtype}."
            )
