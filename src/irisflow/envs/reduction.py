"""Frames at the size that the agent sees: Pillow's antialiased bilinear reduction, as IRIS does it."""

from collections.abc import Callable
from ctypes import CDLL, c_int64, c_void_p
from functools import cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from irisflow.kernels.build import SWITCH, compiled
from irisflow.progress import say

Frame = UInt8[np.ndarray, "height width 3"]
Codes = UInt8[np.ndarray, "height width"]  # of colours
Reduced = UInt8[np.ndarray, "3 size size"]
SOURCE = Path(__file__).with_suffix(".cpp")
PRECISION = 22  # bits of a weight, as in Pillow


def resize(frame: Frame, size: int) -> Reduced:
    """Return the frame at size x size, channel first."""
    small = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(small.transpose(2, 0, 1))


class Reducer:
    """Reduces one frame after another: only what changed by a kernel, or, where there is none, whole frames by Pillow.

    Every pixel is the one that `resize` gives: of a shape that Pillow reduces in height first, it reduces all frames.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._shape: tuple[int, ...] = ()
        self._rows: _Rows | None = None

    def __call__(self, frame: Frame | Codes, pixels: Callable[[], Frame] | None = None) -> Reduced:
        """Return the frame at size x size, channel first; one of codes is that of `pixels`. A code keeps its colour."""
        if frame.shape != self._shape:
            self._shape = frame.shape
            library = _library(frame.shape[:2], self._size)
            self._rows = _Rows(library, frame, self._size) if library else None
        if self._rows:
            return self._rows.reduced(frame, pixels)
        return resize(pixels() if pixels else frame, self._size)


class _Rows:
    """The rows of the last frame, and the same reduced, in which those of the next one are replaced that differ.

    `first` is like the frames to come.
    """

    def __init__(self, library: CDLL, first: Frame | Codes, size: int) -> None:
        height, width = first.shape[:2]
        self._palette, self._is_known = np.zeros((256, 4), np.int32), np.zeros(256, np.bool_)
        self._reduced = np.zeros((3, size, size), np.uint8)
        taps = _Taps.of(width, size), _Taps.of(height, size)
        self._arrays = (
            *taps[0],
            *taps[1],
            *((self._palette, self._is_known) if first.ndim == 2 else (None, None)),
            ~np.ascontiguousarray(first),  # so that all rows of the first frame differ
            np.zeros((height, 3, size), np.uint8),
            self._reduced,
        )
        places = [c_void_p(None if array is None else array.ctypes.data) for array in self._arrays]
        numbers = [each.weights.shape[1] for each in taps]
        sizes = [c_int64(number) for number in (*numbers, height, first[0].nbytes, size)]
        self._reduce = partial(library.reduce_frame, *places, *sizes)
        self._frame: Frame | Codes | None = (
            None  # the last one: numpy takes microseconds to say where it lies
        )
        self._place = c_void_p()

    def reduced(self, frame: Frame | Codes, pixels: Callable[[], Frame] | None = None) -> Reduced:
        """Return the frame at size x size, channel first."""
        frame = np.ascontiguousarray(frame)
        if frame is not self._frame:
            self._frame, self._place = frame, c_void_p(frame.ctypes.data)
        if self._reduce(self._place):
            assert pixels
            self._palette[frame, :3], self._is_known[frame] = pixels(), True
            self._reduce(self._place)
        return self._reduced.copy()


class _Taps(NamedTuple):
    """How Pillow reduces a length: pixel i is a sum of weights times pixels from `first[i]` on, divided by 2^22."""

    first: Int32[np.ndarray, " size"]
    weights: Int32[np.ndarray, "size number"]

    @classmethod
    def of(cls, length: int, size: int) -> Self:
        """Return them as Pillow has them, which reduces 32-bit pictures by the same weights."""
        units = Image.fromarray(np.eye(length, dtype=np.int32) << PRECISION)
        weights = np.asarray(units.resize((length, size), Image.Resampling.BILINEAR))
        found = [np.flatnonzero(row) for row in weights]
        number = max(int(columns[-1] - columns[0]) + 1 for columns in found)
        first = np.array([min(int(columns[0]), length - number) for columns in found], np.int32)
        return cls(first, np.take_along_axis(weights, first[:, None] + np.arange(number), axis=1))


@cache
def _library(shape: tuple[int, int], size: int) -> CDLL | None:
    """Return the kernel if it gives Pillow's pixels of frames [height, width]: versions may differ. Says why if not."""
    made = compiled((SOURCE,))
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if made.library and np.array_equal(_Rows(made.library, frame, size).reduced(frame), resize(frame, size)):
        return made.library
    reason = (
        made.missing or f"The kernel gives other pixels than Pillow for frames of {shape[0]} x {shape[1]}"
    )
    if not reason.startswith(SWITCH) and parent_process() is None:
        say(f"{reason}. Pillow reduces whole frames: a step of a game may take twice as long.")
    return None
