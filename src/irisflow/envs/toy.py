"""Catch: a game from pixels that a small agent learns in minutes."""

from typing import Any

import numpy as np

from irisflow.envs.base import Environment, Info, Observation, State, check_state
from irisflow.games import FULL_ACTIONS

ROWS, COLUMNS = 10, 5
BALL_COLOUR = (240, 220, 60)
PADDLE_COLOUR = (70, 160, 250)
BACKGROUND = 24


class Catch(Environment):
    """A ball falls through 10 rows of 5 cells; the paddle, one cell wide, goes left, stays or goes right.

    One ball is one episode of 9 steps: +1 if caught, -1 if missed, 0 before. The paddle starts in the middle, the ball
    in any column: every ball can be caught, and random play scores -0.6. A step is one frame; there are no lives, no-ops
    or skipped frames. The game is bsuite's (Osband et al., ICLR 2020), as a colour picture of `size` x `size` pixels.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, *, size: int = 64) -> None:
        super().__init__(num_actions=3, size=size)
        self._tops, self._lefts = (np.arange(n + 1) * size // n for n in (ROWS, COLUMNS))
        self._row, self._ball, self._paddle = 0, 0, 0

    @property
    def full_action_ids(self) -> tuple[int, ...]:
        """Which of FULL_ACTIONS the three are: LEFT, NOOP, RIGHT."""
        return tuple(FULL_ACTIONS.index(name) for name in ("LEFT", "NOOP", "RIGHT"))

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[Observation, Info]:
        """Return the first observation of a new ball."""
        super().reset(seed=seed)
        self._row, self._ball, self._paddle = 0, int(self.np_random.integers(COLUMNS)), COLUMNS // 2
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, Info]:
        """Return what follows when the paddle moves by `action - 1` cells and the ball falls by one."""
        if self._has_landed:
            return self._observe(), 0.0, True, False, self._info()
        self._paddle = min(max(self._paddle + int(action) - 1, 0), COLUMNS - 1)
        self._row += 1
        reward = (1.0 if self._ball == self._paddle else -1.0) if self._has_landed else 0.0
        return self._observe(), reward, self._has_landed, False, self._info()

    def render(self) -> np.ndarray:
        """Return the present picture, channel last."""
        return self._observe().transpose(1, 2, 0)

    def get_state(self) -> State:
        """Return the cells of ball and paddle, and the random generator."""
        return {
            "game": "Catch",
            "size": self.size,
            "cells": [self._row, self._ball, self._paddle],
            "random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: State) -> None:
        """Continue exactly where `get_state` was called."""
        check_state(state, game="Catch", size=self.size)
        self._row, self._ball, self._paddle = state["cells"]
        self.np_random.bit_generator.state = state["random"]

    @property
    def _has_landed(self) -> bool:
        return self._row == ROWS - 1

    def _observe(self) -> Observation:
        picture = np.full((3, self.size, self.size), BACKGROUND, np.uint8)
        self._paint(picture, ROWS - 1, self._paddle, PADDLE_COLOUR)
        self._paint(picture, self._row, self._ball, BALL_COLOUR)
        return picture

    def _paint(self, picture: Observation, row: int, column: int, colour: tuple[int, int, int]) -> None:
        top, bottom = self._tops[row : row + 2]
        left, right = self._lefts[column : column + 2]
        picture[:, top:bottom, left:right] = np.array(colour, np.uint8)[:, None, None]

    def _info(self) -> Info:
        return {"lives": 0, "frames": self._row, "is_game_over": self._has_landed}
