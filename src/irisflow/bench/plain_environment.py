"""Atari through a stack of gymnasium's wrappers in this process, as IRIS builds it: every frame is resized."""

from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import MaxAndSkipObservation, TimeLimit, TransformObservation
from PIL import Image

from irisflow.schema import Env

gymnasium.register_envs(ale_py)
AnyEnv = gymnasium.Env[Any, Any]


class NoopStart(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Plays 1 to `noop_max` times nothing at the start of a game."""

    def __init__(self, env: AnyEnv, noop_max: int) -> None:
        super().__init__(env)
        self.noop_max = noop_max

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Return the frame after the no-ops."""
        frame, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.np_random.integers(1, self.noop_max + 1) if self.noop_max else 0):
            frame, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                frame, info = self.env.reset()
        return frame, info


class LifeLossEnds(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Terminates where a life is lost; the next reset then plays one no-op step of the same game."""

    def __init__(self, env: AnyEnv) -> None:
        super().__init__(env)
        self.lives, self.is_over = 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Return the first frame of the next game or life."""
        if self.is_over or seed is not None:
            frame, info = self.env.reset(seed=seed, options=options)
        else:
            frame, _, _, _, info = self.env.step(0)
        self.lives, self.is_over = info["lives"], False
        return frame, info

    def step(self, action: Any) -> Any:
        """Return what the action leads to."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        self.is_over = terminated or truncated
        has_lost = 0 < info["lives"] < self.lives
        self.lives = info["lives"]
        return frame, reward, terminated or has_lost, truncated, info


def resized(frame: np.ndarray, size: int) -> np.ndarray:
    """Return the frame at size x size by Pillow's antialiased bilinear reduction."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


def wrapped(game: str, settings: Env) -> AnyEnv:
    """Return one Atari game with IRIS's wrappers, innermost first: resize, time limit, no-ops, skip, lives."""
    shape = (settings.size, settings.size, 3)
    env: AnyEnv = gymnasium.make(
        f"ALE/{game}-v5",
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
        max_num_frames_per_episode=0,
        disable_env_checker=True,
    )
    env = TransformObservation(env, lambda frame: resized(frame, settings.size), Box(0, 255, shape, np.uint8))
    env = TimeLimit(env, settings.max_episode_steps)
    env = NoopStart(env, settings.noop_max)
    env = MaxAndSkipObservation(env, skip=settings.frame_skip)
    env = LifeLossEnds(env) if settings.done_on_life_loss else env
    return TransformObservation(
        env, lambda frame: frame.transpose(2, 0, 1), Box(0, 255, (3, *shape[:2]), np.uint8)
    )
