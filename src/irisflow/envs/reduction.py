"""Frames at the size that the agent sees: Pillow's antialiased bilinear reduction, as IRIS does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

Frame = UInt8[np.ndarray, "height width 3"]
Reduced = UInt8[np.ndarray, "size size 3"]
Codes = UInt8[np.ndarray, "height bytes"]
MOST_ROWS_BETWEEN = 16  # changed rows that lie further apart are reduced in height by themselves
MOST_ROWS_LOOKED_UP = 80  # of a frame; more are reduced in width together, which is quicker then
MOST_ROWS_KEPT = 8192
PRECISION = 22  # bits of a weight, as in Pillow


def resize(frame: Frame, size: int) -> Reduced:
    """Return the frame at size x size."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Heights:
    """How Pillow reduces rows in height: each row of the result is a sum of whole numbers times rows, divided by 2^22.

    `reached` has, for each row, the rows of the result (first, last + 1) that it reaches; `met` for each row of the result
    the rows that it is made of.
    """

    weights: Float64[np.ndarray, "size height"]
    reached: list[tuple[int, int]]
    met: list[tuple[int, int]]

    @classmethod
    def of(cls, height: int, size: int) -> Self:
        """Return them as Pillow has them, which reduces 32-bit pictures by the same weights."""
        units = Image.fromarray(np.eye(height, dtype=np.int32) << PRECISION)
        weights = np.asarray(units.resize((height, size), Image.Resampling.BILINEAR)).astype(np.float64)
        return cls(weights, _spans(weights.T), _spans(weights))

    def part(
        self, rows: Float64[np.ndarray, "height pixels"], first: int, last: int
    ) -> tuple[slice, Float64[np.ndarray, "part pixels"]]:
        """Return which rows of the result those from `first` to `last` reach, and these, yet to be cut to whole numbers.

        Sums stay below 2^30 and so are exact, in whatever order they are added up.
        """
        top, bottom = self.reached[first][0], self.reached[last][1]
        begin, end = self.met[top][0], self.met[bottom - 1][1]
        sums = self.weights[top:bottom, begin:end] @ rows[begin:end]
        sums *= 2.0**-PRECISION
        sums += 0.5
        return slice(top, bottom), sums


class Reducer:
    """Reduces one frame after another, each row in width and then, where something changed, the rows in height.

    Pillow does it in these two steps, so that every pixel is the one that `resize` gives; for a shape that it reduces in
    height first, every frame is reduced whole. A row in width depends on itself only: games draw few different rows, which
    are kept. In height the few rows that changed are multiplied here, since calling Pillow costs more than its arithmetic.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._heights: Heights | None = None  # none: whole frames
        self._codes: np.ndarray | None = None
        self._kept: dict[bytes, np.ndarray] = {}
        self._narrow = np.zeros((0, 3 * size))
        self._reduced: np.ndarray = np.zeros((size, size, 3), np.uint8)

    def __call__(self, frame: Frame) -> Reduced:
        """Return the frame at size x size."""
        return self.coded(frame.reshape(len(frame), -1), lambda: frame)

    def coded(self, codes: Codes, pixels: Callable[[], Frame]) -> Reduced:
        """Return the frame that `pixels` returns at size x size; its rows have equal pixels where they have equal codes."""
        before, self._codes = self._codes, codes.copy()
        is_first = before is None or before.shape != codes.shape
        if is_first:
            self._heights = _heights(pixels().shape, self._size)
            self._narrow, self._kept = np.zeros((len(codes), 3 * self._size)), {}
        if self._heights is None:
            return resize(pixels(), self._size)
        changed = list(range(len(codes))) if before is None or is_first else _changed_rows(codes, before)
        if not changed:
            return self._reduced
        self._narrow[changed] = self._in_width(codes, changed, pixels)
        self._reduced = self._reduced.copy()
        flat = self._reduced.reshape(self._size, -1)
        for first, last in _bands(changed):
            rows, part = self._heights.part(self._narrow, first, last)
            flat[rows] = part
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


@cache
def _heights(shape: tuple[int, ...], size: int) -> Heights | None:
    """Return how frames of this shape are reduced in height after they are in width.

    None where that does not give Pillow's pixels: it reduces some shapes in height first, and versions differ.
    """
    heights = Heights.of(shape[0], size)
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    _, reduced = heights.part(_narrowed(frame, size).astype(np.float64), 0, shape[0] - 1)
    is_pillows = np.array_equal(reduced.astype(np.uint8), resize(frame, size).reshape(size, -1))
    return heights if is_pillows else None


def _spans(weights: Float64[np.ndarray, "rows columns"]) -> list[tuple[int, int]]:
    """Return, for each row, its first column that is not zero, and the one after its last; all columns where all are."""
    found = [np.flatnonzero(row) for row in weights]
    return [
        (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, weights.shape[1])
        for columns in found
    ]


def _narrowed(rows: Frame, size: int) -> UInt8[np.ndarray, "height pixels"]:
    """Return rows reduced in width only."""
    return np.asarray(Image.fromarray(rows).resize((size, len(rows)), Image.Resampling.BILINEAR)).reshape(
        len(rows), -1
    )


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
