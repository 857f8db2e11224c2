"""Arrays that lie in memory which several processes see: what environments are told and what they answer."""

from multiprocessing.context import BaseContext
from typing import Any

import numpy as np

from irisflow.envs.serial import VectorStep


class SharedSteps:
    """The actions for some environments, and what the last step of each led to.

    It goes to another process as an argument when that starts. Frames are `size` x `size` pixels.
    """

    def __init__(self, num_envs: int, size: int, context: BaseContext) -> None:
        self._fields = {
            "actions": (np.int64, (num_envs,)),
            "rewards": (np.float64, (num_envs,)),
            "frames": (np.int64, (num_envs,)),
            "terminated": (np.bool_, (num_envs,)),
            "truncated": (np.bool_, (num_envs,)),
            "observations": (np.uint8, (num_envs, 3, size, size)),
        }
        self._memory: Any = context.RawArray("B", sum(map(_num_bytes, self._fields.values())))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return views of the common memory, by name."""
        views: dict[str, np.ndarray] = {}
        offset = 0
        for name, (dtype, shape) in self._fields.items():
            number = int(np.prod(shape))
            views[name] = np.frombuffer(self._memory, dtype, number, offset).reshape(shape)
            offset += _num_bytes((dtype, shape))
        return views


def write_step(arrays: dict[str, np.ndarray], rows: slice, step: VectorStep) -> None:
    """Write what a step of the environments in these rows led to."""
    for name in VectorStep.__dataclass_fields__:
        arrays[name][rows] = getattr(step, name)


def read_step(arrays: dict[str, np.ndarray]) -> VectorStep:
    """Return a copy of what the last step led to."""
    return VectorStep(**{name: arrays[name].copy() for name in VectorStep.__dataclass_fields__})


def _num_bytes(field: tuple[type, tuple[int, ...]]) -> int:
    dtype, shape = field
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
