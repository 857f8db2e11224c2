"""What every environment of this package offers beyond gymnasium's interface."""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from irisflow.errors import DataError

Observation = UInt8[np.ndarray, "3 size size"]
Info = dict[str, Any]
State = dict[str, Any]


class Environment(gymnasium.Env[np.ndarray, int], ABC):
    """A game with square RGB observations, channel first, and discrete actions.

    `reset(seed=s)` makes everything that follows reproducible; later resets without a seed continue the same
    random stream. `step` returns raw rewards, and `terminated` and `truncated` apart. `info` holds `lives`,
    `frames` (frames since the game began, no-ops included) and `is_game_over` (the next reset starts a new
    game). After an episode has ended, `step` changes nothing: it returns the last observation, reward 0 and
    the same flags until `reset`.
    """

    def __init__(self, *, num_actions: int, size: int) -> None:
        self.size = size
        self._num_actions = num_actions
        self.action_space = gymnasium.spaces.Discrete(num_actions)  # type: ignore[assignment]
        self.observation_space = gymnasium.spaces.Box(0, 255, (3, size, size), np.uint8)

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        return self._num_actions

    @property
    def full_action_ids(self) -> tuple[int, ...] | None:
        """Which of `games.FULL_ACTIONS` each action means; None where nothing says what the actions mean."""
        return None

    @abstractmethod
    def get_state(self) -> State:
        """Return everything that decides the future: uint8 arrays, and values that JSON can hold.

        Raises EnvironmentFailure where the game behind it cannot be saved.
        """

    @abstractmethod
    def set_state(self, state: State) -> None:
        """Continue from a state that `get_state` of an environment with the same settings returned.

        Raises DataError for the state of another game or size.
        """


def check_state(state: State, *, game: str, size: int) -> None:
    """Raise DataError unless the state was taken from this game at this frame size."""
    found = (state.get("game"), state.get("size"))
    if found != (game, size):
        raise DataError(
            f"environment state: it is of game and size {found}, expected {(game, size)}."
            " Resume with the settings that the run was started with, or start it again."
        )
