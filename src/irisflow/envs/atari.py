"""Atari games as IRIS sees them: Pillow-resized colour frames, max over the last two of four, soft lives.

Only frames that reach an observation are rendered. The emulator is driven directly, so that the order of
skipping, counting, no-ops and life losses is IRIS's (gymnasium's own wrapper resets the game at every life).
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import ale_py
import gymnasium
import numpy as np
from ale_py.roms import get_rom_path
from jaxtyping import UInt8

from irisflow.envs.base import Environment, Info, Observation, State, check_state
from irisflow.envs.reduction import Reducer
from irisflow.errors import DataError

gymnasium.register_envs(ale_py)
Ended = Literal["", "game over", "out of time"]


class AtariEnvironment(Environment):
    """One Atari game. IRIS, appendix (environment); the order of the rules is that of its wrappers.

    The time limit counts emulator frames since the game began, no-ops included. A step after which the life
    counter fell (and is above 0) is terminated if `done_on_life_loss`, but the emulator goes on: the next
    reset plays one no-op step and continues the game. Kept from IRIS: the end of that no-op step is ignored
    (the next step reports it), and a step that ends early returns stale frames, which nothing uses.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        game: str,
        *,
        size: int = 64,
        max_episode_steps: int = 108_000,
        noop_max: int = 1,
        frame_skip: int = 4,
        done_on_life_loss: bool = False,
        clip_reward: bool = False,
    ) -> None:
        self._atari = _emulator(game)
        self._ale = self._atari.ale
        self._actions = self._atari._action_set
        super().__init__(num_actions=len(self._actions), size=size)
        self.game = game
        self._limits = (max_episode_steps, noop_max, frame_skip)
        self._ends_with_life, self._clips_reward = done_on_life_loss, clip_reward
        self._screen = np.empty((*self._ale.getScreenDims(), 3), np.uint8)
        self._codes = np.empty(self._ale.getScreenDims(), np.uint8)  # numbers of colours
        self._reduce = Reducer(size)
        self._last_two = np.zeros((2, 3, size, size), np.uint8)
        self._observation = np.zeros((3, size, size), np.uint8)
        self._frames, self._lives = 0, 0
        self._is_game_over, self._flags = True, (False, False)
        self._before_game, self._history = b"", bytearray()

    @property
    def full_action_ids(self) -> tuple[int, ...]:
        """Which of `games.FULL_ACTIONS` each of the game's actions is."""
        return tuple(int(action.value) for action in self._actions)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[Observation, Info]:
        """Return the first observation: of a new game, or of the next life of the same game."""
        super().reset(seed=seed)
        if seed is not None:
            self._atari.reset(seed=seed)
        if self._is_game_over or seed is not None:
            self._start_game()
        else:
            self._observation = self._skip(0)[0]
        self._is_game_over, self._flags = False, (False, False)
        self._lives = self._ale.lives()
        return self._observation, self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, Info]:
        """Return what one action, held for `frame_skip` frames, leads to."""
        if any(self._flags):
            return self._observation, 0.0, *self._flags, self._info()
        self._observation, reward, ended = self._skip(action)
        lives = self._ale.lives()
        lost_life = self._ends_with_life and 0 < lives < self._lives
        self._lives, self._is_game_over = lives, ended != ""
        self._flags = (ended == "game over" or lost_life, ended == "out of time")
        return self._observation, reward, *self._flags, self._info()

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the emulator's present screen at its own resolution."""
        return self._draw().copy()

    def close(self) -> None:
        """Close the emulator."""
        self._atari.close()

    def get_state(self) -> State:
        """Return the emulator's state before the present game, the game's actions, counters and buffers.

        The emulator's own state of the present frame is incomplete: restored into another process, Qbert,
        Breakout and RoadRunner go on with other pixels. It only serves to check the replayed game.
        """
        return {
            "game": self.game,
            "size": self.size,
            "before_game": np.frombuffer(self._before_game, np.uint8),
            "history": np.frombuffer(bytes(self._history), np.uint8),
            "emulator": np.frombuffer(self._snapshot(), np.uint8),
            "last_two": np.moveaxis(self._last_two, 1, -1).copy(),
            "observation": self._observation.copy(),
            "counters": [self._frames, self._lives],
            "flags": [self._is_game_over, *self._flags],
            "random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: State) -> None:
        """Continue exactly where `get_state` was called: the present game is played again, 0.1 ms a frame."""
        check_state(state, game=self.game, size=self.size)
        self._before_game, self._history = state["before_game"].tobytes(), bytearray()
        self._replay(state["history"].tobytes())
        if self._before_game and self._snapshot() != state["emulator"].tobytes():
            raise DataError(
                f"environment state of {self.game}: played again, the game differs. Resume with the version"
                " of ale-py that the run was started with, or start it again."
            )
        self._last_two = np.moveaxis(state["last_two"], -1, 1).copy()
        self._observation = state["observation"].copy()
        self._frames, self._lives = state["counters"]
        self._is_game_over, *flags = state["flags"]
        self._flags = (flags[0], flags[1])
        self.np_random.bit_generator.state = state["random"]

    def _start_game(self) -> None:
        """Start a new game with a random number of no-ops; a game that ends meanwhile is started again."""
        noop_max = self._limits[1]
        self._restart()
        for _ in range(self.np_random.integers(1, noop_max + 1) if noop_max else 0):
            if self._advance(0)[1]:
                self._restart()
        self._observation = self._resized()

    def _restart(self) -> None:
        self._before_game, self._history = self._snapshot(), bytearray()
        self._ale.reset_game()
        self._frames = 0

    def _replay(self, history: bytes) -> None:
        """Start the present game again from the state before it and play its actions."""
        if not self._before_game:
            return
        try:
            self._atari.restore_state(ale_py.ALEState(self._before_game))
        except (RuntimeError, SystemError):
            raise DataError(
                f"environment state of {self.game}: the emulator refuses it as damaged."
            ) from None
        self._ale.reset_game()
        for action in history:
            self._advance(action)

    def _snapshot(self) -> bytes:
        """Return the emulator's state as it serialises it, random generator included."""
        return bytes(self._atari.clone_state(include_rng=True).serialize())

    def _skip(self, action: int) -> tuple[Observation, float, Ended]:
        """Return the observation, reward and end of an action held for up to `frame_skip` frames."""
        frame_skip = self._limits[2]
        total = 0.0
        ended: Ended = ""
        for frame in range(frame_skip):
            reward, ended = self._advance(action)
            total += reward
            if frame >= frame_skip - 2:
                self._last_two[frame - frame_skip + 2] = self._resized()
            if ended:
                break
        return np.maximum(*self._last_two), total, ended

    def _advance(self, action: int) -> tuple[float, Ended]:
        """Return the reward and end of one emulator frame."""
        reward = float(self._ale.act(self._actions[action]))
        self._frames += 1
        self._history.append(action)
        reward = float(np.sign(reward)) if self._clips_reward else reward
        if self._ale.game_over(with_truncation=False):
            return reward, "game over"
        return reward, "out of time" if self._frames >= self._limits[0] else ""

    def _draw(self) -> UInt8[np.ndarray, "height width 3"]:
        self._ale.getScreenRGB(self._screen)
        return self._screen

    def _resized(self) -> Observation:
        self._ale.getScreen(self._codes)
        return self._reduce(self._codes, self._draw)

    def _info(self) -> Info:
        return {"lives": self._lives, "frames": self._frames, "is_game_over": self._is_game_over}


def has_game(game: str) -> bool:
    """Return whether the emulator knows the game, named as in `ALE/<game>-v5`."""
    return f"ALE/{game}-v5" in gymnasium.registry


def cartridge_md5(game: str) -> str:
    """Return the md5 of the game's cartridge, by which ale-py itself tells cartridges apart."""
    cartridge = get_rom_path(gymnasium.spec(f"ALE/{game}-v5").kwargs["game"])
    assert cartridge is not None, "ale-py comes with the cartridges of all its games"
    return hashlib.md5(Path(cartridge).read_bytes(), usedforsecurity=False).hexdigest()


def _emulator(game: str) -> Any:
    """Return gymnasium's bare Atari environment: one frame a step, no sticky actions, minimal actions.

    These are the settings of `<game>NoFrameskip-v4`, which some of the emulator's games lack.
    """
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return gymnasium.make(
        f"ALE/{game}-v5",
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
        max_num_frames_per_episode=0,
    ).unwrapped
