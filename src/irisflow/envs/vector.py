"""Several environments that step together, in this process or in one process each."""

import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from jaxtyping import Bool, Float64, Int64, UInt8

from irisflow.envs.base import Environment
from irisflow.envs.make import make_environment
from irisflow.errors import EnvironmentFailure, IrisflowError
from irisflow.schema import Env

SECONDS_TO_ANSWER = 300.0
Observations = UInt8[np.ndarray, "envs 3 size size"]
Result = TypeVar("Result")


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


class ParallelEnvironments:
    """Environments in one process each, through gymnasium's AsyncVectorEnv without automatic resets.

    A process that dies, raises or is silent for `seconds_to_answer` ends all of them with EnvironmentFailure.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], Environment]],
        *,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
    ) -> None:
        context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
        assert isinstance(context, ForkServerContext)
        context.set_forkserver_preload(["irisflow.envs.make"])
        self.num_envs, self._timeout = len(makers), seconds_to_answer
        self._envs = AsyncVectorEnv(makers, context="forkserver", autoreset_mode=AutoresetMode.DISABLED)
        space = self._envs.single_action_space
        assert isinstance(space, Discrete)
        self.num_actions = int(space.n)

    def reset(self, seeds: Sequence[int | None]) -> Observations:
        """Return all observations after resetting the environments whose seed is not None."""
        mask = np.array([seed is not None for seed in seeds])
        self._guarded(self._envs.reset_async, seed=list(seeds), options={"reset_mask": mask})
        observations, _ = self._guarded(self._envs.reset_wait, timeout=self._timeout)
        return np.asarray(observations)

    def step(self, actions: Int64[np.ndarray, " envs"]) -> VectorStep:
        """Return what one action in each environment leads to."""
        self._guarded(self._envs.step_async, actions)
        result = self._guarded(self._envs.step_wait, timeout=self._timeout)
        return VectorStep(*result[:4], np.asarray(result[4]["frames"], np.int64))

    def close(self) -> None:
        """Close the environments and their processes."""
        if not self._envs.closed:
            self._guarded(self._envs.close)

    def _guarded(self, call: Callable[..., Result], *args: Any, **options: Any) -> Result:
        try:
            with warnings.catch_warnings(action="ignore"):  # gymnasium warns of errors with whole tracebacks
                return call(*args, **options)
        except IrisflowError:
            self._kill()
            raise
        except Exception as error:
            causes = self._kill() or f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise EnvironmentFailure(
                f"environment processes: {causes}. Start the command again; it resumes where it can."
            ) from None

    def _kill(self) -> str:
        """End all processes; return which of them had died by themselves, and how."""
        processes = self._envs.processes
        for process in processes:
            process.join(timeout=0.2)
        dead = [f"number {i} died with exit code {p.exitcode}" for i, p in enumerate(processes) if p.exitcode]
        for process in processes:
            process.kill()
        self._envs.closed = True
        return ", ".join(dead)


def make_environments(settings: Env, num_envs: int, *, parallel: bool) -> Environments:
    """Return `num_envs` equal environments, in processes of their own if `parallel` and there are several."""
    makers = [partial(make_environment, settings)] * num_envs
    return ParallelEnvironments(makers) if parallel and num_envs > 1 else SerialEnvironments(makers)
