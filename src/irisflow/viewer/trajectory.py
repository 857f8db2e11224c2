"""The steps of one episode as they are played, to be saved."""

import numpy as np

from irisflow.records import Episode
from irisflow.viewer.scene import Moment


class Trajectory:
    """Grows by one step at a time. Frames are what the agent's environment shows: reduced, or imagined."""

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._ends: list[tuple[bool, bool]] = []
        self._values: list[float] = []
        self._last: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._actions)

    @property
    def total(self) -> float:
        """The return so far."""
        return sum(self._rewards)

    def add(self, before: Moment, action: int, after: Moment) -> None:
        """Append the step from one moment to the next."""
        self._frames.append(frame_of(before))
        self._actions.append(action)
        self._rewards.append(after.reward)
        self._ends.append((after.end, after.truncated))
        self._values.append(before.thought.value if before.thought is not None else np.nan)
        self._last = frame_of(after)

    def episode(self) -> Episode:
        """Return the steps as an episode. Raises ValueError if there is none."""
        if not self._actions:
            raise ValueError("a trajectory without steps is no episode")
        ends = np.array(self._ends, np.bool_)
        ends[:-1] = False  # with no horizon, imagination may go on behind an end
        return Episode(
            np.stack(self._frames).transpose(0, 3, 1, 2).copy(),
            np.array(self._actions, np.int64),
            np.array(self._rewards, np.float32),
            ends[:, 0],
            ends[:, 1] & ~ends[:, 0],
        )

    @property
    def frames(self) -> list[np.ndarray]:
        """All frames, (height, width, 3) each: one more than there are steps."""
        return [*self._frames, *([] if self._last is None else [self._last])]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return frames (one more than steps), actions, rewards, ends, truncated and the critic's values."""
        ends = np.array(self._ends, np.bool_).reshape(-1, 2)
        return {
            "frames": np.stack(self.frames),
            "actions": np.array(self._actions, np.int64),
            "rewards": np.array(self._rewards, np.float32),
            "ends": ends[:, 0],
            "truncated": ends[:, 1],
            "values": np.array(self._values, np.float32),
        }


def frame_of(moment: Moment) -> np.ndarray:
    """Return the picture of a moment that is kept: the reduced frame, or in the world model the imagined one."""
    return moment.pictures.get("downscaled", moment.pictures["agent"])
