"""Several environments that step together, in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from irisflow.envs.base import Environment

Observations = UInt8[np.ndarray, "envs 3 size size"]


@dataclass(frozen=True)
class VectorStep:
    """What one step of every environment leads to."""

    observations: Observations
    rewards: Float64[np.ndarray, " envs"]
    terminated: Bool[np.ndarray, " envs"]
    truncated: Bool[np.ndarray, " envs"]
    frames: Int64[np.ndarray, " envs"]


@runtime_checkable
class Environments(Protocol):
    """Environments that step together. One whose episode has ended stands still until it is reset."""

    num_envs: int
    num_actions: int

    def reset(self, seeds: Sequence[int | None]) -> Observations:
        """Return all observations after resetting the environments whose seed is not None."""

    def step(self, actions: Int64[np.ndarray, " envs"]) -> VectorStep:
        """Return what one action in each environment leads to."""

    def close(self) -> None:
        """Close the environments and their processes."""


class SerialEnvironments:
    """Environments in this process."""

    def __init__(self, makers: Sequence[Callable[[], Environment]]) -> None:
        self._environments = [make() for make in makers]
        self.num_envs, self.num_actions = len(makers), self._environments[0].num_actions
        size = self._environments[0].size
        self._observations = np.zeros((len(makers), 3, size, size), np.uint8)

    def reset(self, seeds: Sequence[int | None]) -> Observations:
        """Return all observations after resetting the environments whose seed is not None."""
        for index, seed in enumerate(seeds):
            if seed is not None:
                self._observations[index], _ = self._environments[index].reset(seed=seed)
        return self._observations.copy()

    def step(self, actions: Int64[np.ndarray, " envs"]) -> VectorStep:
        """Return what one action in each environment leads to."""
        steps = [env.step(int(action)) for env, action in zip(self._environments, actions, strict=True)]
        observations, rewards, terminated, truncated, infos = zip(*steps, strict=True)
        self._observations = np.stack(observations)
        return VectorStep(
            self._observations.copy(),
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            np.array([info["frames"] for info in infos], np.int64),
        )

    def close(self) -> None:
        """Close the environments."""
        for environment in self._environments:
            environment.close()
