"""What intervals of the world models' measurements are made of: sums over stretches of the recording, read and checked.

docs/dataset-format.md describes the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load

from irisflow.errors import DataError

MEND = "Run its `measure_world_model` stage again."
COUNTS, SUM, WEIGHT = ("env_step", "num_episodes", "context"), "sum/", "weight/"
Key = tuple[str, str]  # metric and mode, which is empty for a frame by itself


@dataclass(frozen=True, eq=False)
class RunStretches:
    """The sums of one run's last weights: by metric and mode, and what they weigh by metric, (stretches, horizon) each.

    Frames by themselves have a horizon of 1. `context` is None where nothing was predicted.
    """

    env_step: int
    num_episodes: int
    context: int | None
    sums: Mapping[Key, Float[np.ndarray, "stretches horizon"]]
    weights: Mapping[str, Float[np.ndarray, "stretches horizon"]]

    @property
    def num_stretches(self) -> int:
        """How many stretches the recording was cut into."""
        return len(next(iter(self.weights.values())))


def read_stretches(path: Path) -> RunStretches:
    """Return what a file holds. Raises DataError, one line with file, tensor, what was found and what is allowed."""
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None
    return stretches_in(tensors, path)


def stretches_in(tensors: Mapping[str, np.ndarray], path: Path) -> RunStretches:
    """Return what the tensors of a file hold. Raises DataError as `read_stretches` does."""
    counts = {name: _count(path, name, tensors) for name in COUNTS if name in tensors or name != "context"}
    weights = _weights(path, tensors)
    sums: dict[Key, np.ndarray] = {}
    for name in sorted(set(tensors) - set(COUNTS)):
        if name.startswith(SUM):
            metric, _, mode = name.removeprefix(SUM).partition("/")
            if metric not in weights:
                raise _error(path, f"{WEIGHT}{metric}", "nothing", f"the weights of {name}")
            if mode and "context" not in counts:
                raise _error(path, "context", "nothing", f"the context of {name}")
            sums[metric, mode] = _table(path, name, tensors, tensors[f"{WEIGHT}{metric}"].shape)
        elif not name.startswith(WEIGHT):
            raise _error(path, name, "this name", f"{', '.join(COUNTS)}, {SUM}..., {WEIGHT}...")
    return RunStretches(counts["env_step"], counts["num_episodes"], counts.get("context"), sums, weights)


def _weights(
    path: Path, tensors: Mapping[str, np.ndarray]
) -> dict[str, Float[np.ndarray, "stretches horizon"]]:
    """Return the weights by metric."""
    found = {
        name.removeprefix(WEIGHT): _table(path, name, tensors, tensors[name].shape)
        for name in sorted(tensors)
        if name.startswith(WEIGHT)
    }
    for metric, weight in found.items():
        if (weight < 0).any():
            raise _error(path, f"{WEIGHT}{metric}", f"{weight.min():g}", "0 or more")
    lengths = sorted({len(weight) for weight in found.values()})
    if len(lengths) != 1:
        told = f"{lengths} stretches" if lengths else "no weights"
        raise _error(path, f"{WEIGHT}...", told, "the same number of stretches for all")
    return found


def _count(path: Path, name: str, tensors: Mapping[str, np.ndarray]) -> int:
    found = tensors.get(name)
    if found is None or found.shape != (1,) or found.dtype != np.int64 or found[0] < 0:
        raise _error(path, name, _told(found), "one int64, 0 or more")
    return int(found[0])


def _table(
    path: Path, name: str, tensors: Mapping[str, np.ndarray], shape: tuple[int, ...]
) -> Float[np.ndarray, "stretches horizon"]:
    found = tensors[name]
    if found.dtype != np.float32 or found.shape != shape or len(shape) not in (1, 2) or not found.size:
        raise _error(path, name, _told(found), "float32 (stretches) or (stretches, horizon), as its weights")
    if not np.isfinite(found).all():
        raise _error(path, name, "a number that is not finite", "finite numbers")
    return found.reshape(len(found), -1)


def _told(found: np.ndarray | None) -> str:
    return "nothing" if found is None else f"{found.dtype} {found.shape}"


def _error(path: Path, name: str, found: Any, allowed: str) -> DataError:
    return DataError(f"{path}, tensor {name}: found {found}, allowed: {allowed}. {MEND}")
