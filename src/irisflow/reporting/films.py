"""Film strips: what really followed a start beside what the world model imagined there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from irisflow.errors import DataError
from irisflow.reporting.pictures import rows_of_frames

TIMES = (0, 1, 2, 5, 10, 15, 20, 30, 40, 50)
MEND = "Delete this file and run its `measure_world_model` stage again."


@dataclass(frozen=True)
class Film:
    """One start: frames that followed, that were imagined, and the former through the tokenizer; index 0 is the start."""

    truth: UInt8[np.ndarray, "frames 3 height width"]
    imagination: UInt8[np.ndarray, "frames 3 height width"]
    reconstruction: UInt8[np.ndarray, "frames 3 height width"]


def read_films(path: Path) -> list[Film]:
    """Return the films of a `film.safetensors`, each up to its episode's end. Raises DataError naming file and tensor."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None
    mask = _checked(path, tensors.get("mask"), "mask", np.dtype(bool), (None, None))
    shape = (*mask.shape, 3, None, None)
    films = [
        _checked(path, tensors.get(key), key, np.dtype(np.uint8), shape)
        for key in ("truth", "imagination", "reconstruction")
    ]
    if len({found.shape for found in films}) > 1:
        raise DataError(f"{path}: truth, imagination and reconstruction must have one shape. {MEND}")
    return [Film(*(frames[index][_kept(mask[index])] for frames in films)) for index in range(len(mask))]


def _kept(mask: Bool[np.ndarray, "frames"]) -> slice:
    """Return the frames before the first one that does not count."""
    return slice(0, len(mask) if mask.all() else int(np.argmin(mask)))


def _checked(
    path: Path, found: np.ndarray | None, key: str, dtype: np.dtype[np.generic], shape: Sequence[int | None]
) -> np.ndarray:
    fits = (
        found is not None
        and found.dtype == dtype
        and found.ndim == len(shape)
        and all(wanted in (None, length) for wanted, length in zip(shape, found.shape, strict=True))
        and found.size > 0
    )
    if found is None or not fits:
        shown = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise DataError(f"{path}, tensor {key}: found {shown}, allowed: {dtype} {list(shape)}. {MEND}")
    return found


def times_shown(film: Film, *, most: int) -> list[int]:
    """Return the frames to show: the start, the first ones after it, then fewer and fewer, the last one included."""
    last = len(film.truth) - 1
    chosen = [time for time in TIMES if time < last][: most - 1]
    return [*chosen, last]


def film_picture(film: Film, times: Sequence[int], *, magnification: int) -> Image.Image:
    """Return three rows (truth, imagination, four times |difference|), magnified without smoothing."""
    return rows_of_frames(film.truth[list(times)], film.imagination[list(times)], magnification=magnification)
