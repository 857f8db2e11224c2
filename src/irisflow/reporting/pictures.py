"""Reconstructions beside their originals: read from an agent's file, laid out as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from irisflow.errors import DataError

GAP = 2
PEAK = 255.0
MOST_PSNR = 60.0
ERROR_GAIN = 4
PAPER = 255


@dataclass(frozen=True)
class Reconstructions:
    """Frames of one agent, uint8, and what its tokenizer makes of them."""

    originals: UInt8[np.ndarray, "frames 3 height width"]
    reconstructions: UInt8[np.ndarray, "frames 3 height width"]


def read_reconstructions(path: Path) -> Reconstructions:
    """Return the frames of a `reconstructions.safetensors`. Raises DataError naming file and tensor."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Train or evaluate this agent again.") from None
    for key in ("originals", "reconstructions"):
        found = tensors.get(key)
        if (
            found is None
            or found.dtype != np.uint8
            or found.ndim != 4
            or found.shape[1] != 3
            or not len(found)
        ):
            shape = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise DataError(
                f"{path}, tensor {key}: found {shape}, allowed: uint8 [frames, 3, height, width]."
                " Train or evaluate this agent again."
            )
    if tensors["originals"].shape != tensors["reconstructions"].shape:
        raise DataError(
            f"{path}: originals {list(tensors['originals'].shape)} and reconstructions"
            f" {list(tensors['reconstructions'].shape)} must have one shape. Train or evaluate this agent"
            f" again."
        )
    return Reconstructions(tensors["originals"], tensors["reconstructions"])


def psnr(frames: Reconstructions) -> Float[np.ndarray, "frames"]:
    """Return the peak signal-to-noise ratio of every frame in dB, at most 60 (identical frames)."""
    difference = frames.originals.astype(np.float64) - frames.reconstructions
    error = np.maximum((difference**2).mean(axis=(1, 2, 3)), PEAK**2 / 10 ** (MOST_PSNR / 10))
    return np.asarray(10 * np.log10(PEAK**2 / error))


def spread_indices(num_frames: int, num_shown: int) -> list[int]:
    """Return the indices of at most `num_shown` frames, evenly spread, the first and the last among them."""
    shown = min(num_frames, num_shown)
    return [round(place) for place in np.linspace(0, num_frames - 1, shown).tolist()]


def picture(frames: Reconstructions, chosen: Sequence[int], *, magnification: int) -> Image.Image:
    """Return three rows (original, reconstruction, four times |error|) of some frames, magnified without smoothing."""
    return rows_of_frames(
        frames.originals[list(chosen)], frames.reconstructions[list(chosen)], magnification=magnification
    )


def rows_of_frames(
    originals: UInt8[np.ndarray, "frames 3 height width"],
    copies: UInt8[np.ndarray, "frames 3 height width"],
    *,
    magnification: int,
) -> Image.Image:
    """Return three rows: originals, copies, four times |error|; magnified without smoothing."""
    error = np.abs(originals.astype(np.int16) - copies)
    shown_error = np.minimum(ERROR_GAIN * error, 255).astype(np.uint8)
    rows = [_strip(row, magnification) for row in (originals, copies, shown_error)]
    gap = np.full((GAP * magnification, rows[0].shape[1], 3), PAPER, np.uint8)
    return Image.fromarray(np.concatenate([rows[0], gap, rows[1], gap, rows[2]]))


def _strip(
    row: UInt8[np.ndarray, "frames 3 height width"], magnification: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    pieces = []
    for frame in row.transpose(0, 2, 3, 1):
        large = frame.repeat(magnification, axis=0).repeat(magnification, axis=1)
        pieces += [large, np.full((large.shape[0], GAP * magnification, 3), PAPER, np.uint8)]
    return np.concatenate(pieces[:-1], axis=1)


def mean_psnr(all_frames: Mapping[tuple[str, str, int], Reconstructions]) -> dict[str, float]:
    """Return variant -> PSNR averaged over frames, then over its games and seeds."""
    values: dict[str, list[float]] = {}
    for (variant, _, _), frames in sorted(all_frames.items(), key=lambda item: item[0]):
        values.setdefault(variant, []).append(float(psnr(frames).mean()))
    return {variant: float(np.mean(found)) for variant, found in values.items()}
