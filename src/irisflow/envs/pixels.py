"""Any other gymnasium environment that has discrete actions and a picture."""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from irisflow.envs.base import Environment, Info, Observation, State
from irisflow.envs.reduction import Reducer
from irisflow.errors import ConfigError, EnvironmentFailure


class PixelEnvironment(Environment):
    """A gymnasium environment seen through its RGB observation or, where that is no image, its rendering.

    An action is held for `frame_skip` of its steps and `max_episode_steps` counts them. There are no no-ops
    and no lives. Its inner state cannot be saved, so a run on it cannot be resumed exactly.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self, env_id: str, *, size: int = 64, max_episode_steps: int = 108_000, frame_skip: int = 1
    ) -> None:
        self._inner, self._shows_observation = _made(env_id)
        space = self._inner.action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise ConfigError(
                f"env.train.id: {env_id} has actions {space}. Allowed: discrete ones, Discrete(n). Register it with a"
                " keyword or a wrapper that makes them so, and name it as module:Name-v0 (docs/your-own-game.md)."
            )
        super().__init__(num_actions=int(space.n), size=size)
        self._env_id, self._first_action = env_id, int(space.start)
        self._limits = (max_episode_steps, frame_skip)
        self._frames, self._flags = 0, (False, False)
        self._reduce = Reducer(size)
        self._picture: np.ndarray = np.zeros((size, size, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Return the first observation of a new episode."""
        super().reset(seed=seed)
        seen, _ = self._inner.reset(seed=seed, options=options)
        self._frames, self._flags = 0, (False, False)
        self._look(seen)
        return self._observe(), self._info()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, Info]:
        """Return what the action, held for `frame_skip` steps of the inner environment, leads to."""
        total = 0.0
        for _ in range(self._limits[1]):
            if any(self._flags):
                break
            seen, reward, terminated, truncated, _ = self._inner.step(self._first_action + int(action))
            total += float(reward)
            self._frames += 1
            self._flags = (bool(terminated), bool(truncated) or self._frames >= self._limits[0])
            self._look(seen)
        return self._observe(), total, *self._flags, self._info()

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the present picture at its own resolution."""
        return self._picture

    def close(self) -> None:
        """Close the inner environment."""
        self._inner.close()

    def get_state(self) -> State:
        """Raise EnvironmentFailure: gymnasium has no way to save an arbitrary environment."""
        raise EnvironmentFailure(
            f"env.train.id: the inner state of {self._env_id} cannot be saved."
            " Set common.do_checkpoint=False, or use an Atari game or Catch, which resume exactly."
        )

    def set_state(self, state: State) -> None:  # noqa: ARG002
        """Raise EnvironmentFailure, as `get_state` does."""
        self.get_state()

    def _look(self, seen: Any) -> None:
        picture = seen if self._shows_observation else self._rendered()
        if not (isinstance(picture, np.ndarray) and _is_rgb(picture.dtype, picture.shape)):
            found = (
                f"{picture.dtype} {list(picture.shape)}"
                if isinstance(picture, np.ndarray)
                else type(picture).__name__
            )
            raise EnvironmentFailure(
                f"env.train.id: {self._env_id} shows {found}. Allowed: RGB frames, uint8 [height, width, 3]."
            )
        self._picture = picture

    def _rendered(self) -> Any:
        try:
            return self._inner.render()
        except gymnasium.error.Error as error:
            raise EnvironmentFailure(f"env.train.id: {self._env_id} cannot be rendered: {error}") from None

    def _observe(self) -> Observation:
        return self._reduce(self._picture)

    def _info(self) -> Info:
        return {"lives": 0, "frames": self._frames, "is_game_over": any(self._flags)}


def _made(env_id: str) -> tuple[gymnasium.Env[Any, Any], bool]:
    """Return the inner environment, and whether its observations are the picture."""
    try:
        inner = gymnasium.make(env_id)
        if _is_image(inner.observation_space):
            return inner, True
        render_modes = inner.metadata.get("render_modes") or []
        inner.close()
        if "rgb_array" in render_modes:
            return gymnasium.make(env_id, render_mode="rgb_array"), False
    except (gymnasium.error.Error, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentFailure(f"env.train.id: {env_id} cannot be made: {reason}") from None
    raise EnvironmentFailure(
        f"env.train.id: {env_id} has neither RGB observations (uint8 [height, width, 3]) nor the render mode rgb_array."
        " Use an environment with pictures, or wrap it (docs/your-own-game.md)."
    )


def _is_image(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and _is_rgb(space.dtype, space.shape)


def _is_rgb(dtype: Any, shape: tuple[int, ...]) -> bool:
    return bool(dtype == np.uint8) and len(shape) == 3 and shape[2] == 3
