"""Frames at the size that the agent sees: Pillow's antialiased bilinear reduction, as IRIS does it."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Frame = UInt8[np.ndarray, "height width 3"]
Reduced = UInt8[np.ndarray, "size size 3"]
MOST_ROWS_BETWEEN = 16  # changed rows that lie further apart are reduced by themselves


def resize(frame: Frame, size: int) -> Reduced:
    """Return the frame at size x size."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


class Reducer:
    """Reduces one frame after another: rows that are as they were in the frame before are not computed again.

    Every pixel is the one that `resize` gives. That needs a scale which floats hold exactly: with a size that is no power of
    two each frame is reduced whole.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._is_exact = size & (size - 1) == 0
        self._frame: np.ndarray | None = None
        self._reduced: np.ndarray = np.zeros((size, size, 3), np.uint8)

    def __call__(self, frame: Frame) -> Reduced:
        """Return the frame at size x size."""
        before = self._frame
        if before is None or before.shape != frame.shape or not self._is_exact:
            self._reduced = resize(frame, self._size)
        else:
            self._reduced = self._reduced.copy()
            for first, last in _bands(_changed_rows(frame, before)):
                self._renew(frame, first, last)
        self._frame = frame.copy()
        return self._reduced

    def _renew(self, frame: Frame, first: int, last: int) -> None:
        """Reduce again what the rows from `first` to `last` of the frame reach.

        Row j of the result is a mean over the frame's rows less than a scale away from (j + 1/2) x scale.
        """
        height, width, _ = frame.shape
        scale = height / self._size
        top, bottom = max(0, int(first / scale - 1.5)), min(self._size, math.ceil((last + 1) / scale + 0.5))
        begin, end = max(0, int((top - 0.5) * scale) - 1), min(height, math.ceil((bottom + 0.5) * scale) + 1)
        rows = Image.fromarray(frame[begin:end])
        box = (0, top * scale - begin, width, bottom * scale - begin)
        part = rows.resize((self._size, bottom - top), Image.Resampling.BILINEAR, box=box)
        self._reduced[top:bottom] = np.asarray(part)


def _changed_rows(frame: Frame, before: Frame) -> np.ndarray:
    """Return the numbers of the rows that differ, by comparing eight bytes at a time where rows divide into them."""
    word = np.uint64 if frame[0].nbytes % 8 == 0 else np.uint8
    one, other = (pixels.reshape(len(frame), -1).view(word) for pixels in (frame, before))
    return np.flatnonzero((one != other).any(axis=1))


def _bands(rows: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last of each run of rows that lie close together."""
    if not len(rows):
        return []
    cuts = np.flatnonzero(np.diff(rows) > MOST_ROWS_BETWEEN)
    firsts, lasts = rows[np.r_[0, cuts + 1]], rows[np.r_[cuts, len(rows) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
