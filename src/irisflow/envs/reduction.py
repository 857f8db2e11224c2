"""Frames at the size that the agent sees: Pillow's antialiased bilinear reduction, as IRIS does it."""

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Frame = UInt8[np.ndarray, "height width 3"]
Reduced = UInt8[np.ndarray, "size size 3"]
Codes = UInt8[np.ndarray, "height bytes"]
MOST_ROWS_BETWEEN = 16  # changed rows that lie further apart are reduced in height by themselves
MOST_ROWS_LOOKED_UP = 80  # of a frame; more are reduced in width together, which is quicker then
MOST_ROWS_KEPT = 8192


def resize(frame: Frame, size: int) -> Reduced:
    """Return the frame at size x size."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


class Reducer:
    """Reduces one frame after another, each row in width and then, where something changed, the rows in height.

    Pillow does it in these two steps, so that every pixel is the one that `resize` gives; for a shape that it reduces in
    height first, every frame is reduced whole. A row in width depends on itself only: games draw few different rows, which
    are kept. A part in height needs a scale that floats hold exactly: with a size that is no power of two all rows are
    reduced in height again.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._has_parts = size & (size - 1) == 0
        self._is_in_steps = False
        self._codes: np.ndarray | None = None
        self._kept: dict[bytes, np.ndarray] = {}
        self._narrow = np.zeros((0, size, 3), np.uint8)
        self._reduced: np.ndarray = np.zeros((size, size, 3), np.uint8)

    def __call__(self, frame: Frame) -> Reduced:
        """Return the frame at size x size."""
        return self.coded(frame.reshape(len(frame), -1), lambda: frame)

    def coded(self, codes: Codes, pixels: Callable[[], Frame]) -> Reduced:
        """Return the frame that `pixels` returns at size x size; its rows have equal pixels where they have equal codes."""
        before, self._codes = self._codes, codes.copy()
        is_first = before is None or before.shape != codes.shape
        if is_first:
            self._is_in_steps = _is_width_first(pixels().shape, self._size)
            self._narrow, self._kept = np.zeros((len(codes), self._size, 3), np.uint8), {}
        if not self._is_in_steps:
            return resize(pixels(), self._size)
        changed = list(range(len(codes))) if before is None or is_first else _changed_rows(codes, before)
        if not changed:
            return self._reduced
        self._narrow[changed] = self._in_width(codes, changed, pixels)
        if is_first or not self._has_parts:
            self._reduced = resize(self._narrow, self._size)
            return self._reduced
        self._reduced = self._reduced.copy()
        for first, last in _bands(changed):
            self._renew(first, last)
        return self._reduced

    def _in_width(
        self, codes: Codes, rows: list[int], pixels: Callable[[], Frame]
    ) -> list[np.ndarray] | np.ndarray:
        """Return rows of the frame, `size` wide."""
        if len(rows) > MOST_ROWS_LOOKED_UP:
            return _narrowed(pixels()[rows], self._size)
        keys = [codes[row].tobytes() for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._kept}
        if missing:
            if len(self._kept) > MOST_ROWS_KEPT:
                self._kept, missing = {}, dict(zip(keys, rows, strict=True))
            made = _narrowed(pixels()[list(missing.values())], self._size)
            self._kept.update(zip(missing, made, strict=True))
        return [self._kept[key] for key in keys]

    def _renew(self, first: int, last: int) -> None:
        """Reduce in height again what the rows from `first` to `last` of the frame reach.

        Row j of the result is a mean over the frame's rows less than a scale away from (j + 1/2) x scale.
        """
        height = len(self._narrow)
        scale = height / self._size
        top, bottom = max(0, int(first / scale - 1.5)), min(self._size, math.ceil((last + 1) / scale + 0.5))
        begin, end = max(0, int((top - 0.5) * scale) - 1), min(height, math.ceil((bottom + 0.5) * scale) + 1)
        rows = Image.fromarray(self._narrow[begin:end])
        box = (0, top * scale - begin, self._size, bottom * scale - begin)
        part = rows.resize((self._size, bottom - top), Image.Resampling.BILINEAR, box=box)
        self._reduced[top:bottom] = np.asarray(part)


@cache
def _is_width_first(shape: tuple[int, ...], size: int) -> bool:
    """Return whether Pillow reduces frames of this shape in width before it does in height. Versions and shapes differ."""
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return np.array_equal(resize(_narrowed(frame, size), size), resize(frame, size))


def _narrowed(rows: Frame, size: int) -> UInt8[np.ndarray, "height size 3"]:
    """Return rows reduced in width only."""
    return np.asarray(Image.fromarray(rows).resize((size, len(rows)), Image.Resampling.BILINEAR))


def _changed_rows(codes: Codes, before: Codes) -> list[int]:
    """Return the numbers of the rows that differ, by comparing eight bytes at a time where rows divide into them."""
    word = np.uint64 if codes.shape[1] % 8 == 0 else np.uint8
    rows: list[int] = np.flatnonzero((codes.view(word) != before.view(word)).any(axis=1)).tolist()
    return rows


def _bands(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of rows that lie close together."""
    first = last = rows[0]
    for row in rows:
        if row - last > MOST_ROWS_BETWEEN:
            yield first, last
            first = row
        last = row
    yield first, last
