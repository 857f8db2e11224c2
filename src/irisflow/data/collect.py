"""Steps in an environment, for the replay buffer or for a recording."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from irisflow import faults, interruption
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.base import Environment
from irisflow.progress import progress
from irisflow.records import Episode


@runtime_checkable
class Policy(Protocol):
    """Chooses actions from observations and whatever it remembers."""

    def begin(self, recent: UInt8[np.ndarray, "time 3 height width"]) -> None:
        """Forget everything, then remember these past observations of the episode, oldest first."""

    def act(self, observations: UInt8[np.ndarray, "envs 3 height width"]) -> Int64[np.ndarray, " envs"]:
        """Return the action for each environment's present observation."""


class RandomPolicy:
    """Uniformly random actions."""

    def __init__(self, num_actions: int, rng: np.random.Generator) -> None:
        self._num_actions, self._rng = num_actions, rng

    def begin(self, recent: UInt8[np.ndarray, "time 3 height width"]) -> None:
        """Do nothing: there is nothing to remember."""

    def act(self, observations: UInt8[np.ndarray, "envs 3 height width"]) -> Int64[np.ndarray, " envs"]:
        """Return a random action for each environment."""
        return self._rng.integers(self._num_actions, size=len(observations))


@dataclass(frozen=True)
class EpisodeResult:
    """A finished episode; `game_score` is the return of the whole game if that ended too."""

    score: float
    length: int
    terminated: bool
    truncated: bool
    game_score: float | None


class Collector:
    """Plays one environment into a replay buffer. An episode open at the end of a call goes on in the next.

    With life-loss ends each life is an episode. `burn_in` is how many past observations of the open episode
    the policy is given at the start of a call. The first reset takes `seed`; later ones continue its random
    stream.
    """

    def __init__(
        self, environment: Environment, replay: ReplayBuffer, *, burn_in: int = 20, seed: int | None = None
    ) -> None:
        self._environment, self._replay, self._seed = environment, replay, seed
        self._observation: np.ndarray | None = None
        self._recent: deque[np.ndarray] = deque(maxlen=burn_in)
        self._score, self._length, self._game_score = 0.0, 0, 0.0
        self._num_done: int | None = None  # steps of a call that was interrupted
        self._results: list[EpisodeResult] = []

    def collect(self, policy: Policy, num_steps: int, *, what: str | None = None) -> list[EpisodeResult]:
        """Return the episodes that finished within `num_steps` more steps, which the buffer now has.

        If a request to stop interrupts it, the same call with the same policy goes on after the last step. `what` names a
        progress bar.
        """
        if self._num_done is None:
            self._num_done, self._results = 0, []
            policy.begin(self._past())
        chunk: list[tuple[Any, ...]] = []
        try:
            for _ in _shown(range(self._num_done, num_steps), what):
                chunk.append(self._next(policy))
                self._num_done += 1
                if chunk[-1][3] or chunk[-1][4]:
                    self._results.append(self._finished(*chunk[-1][3:]))
                    self._replay.extend(_episode(chunk))
                    chunk = []
                faults.point("collect.step")
                interruption.check()
        finally:
            if chunk:
                self._replay.extend(_episode(chunk))
        results, self._results, self._num_done = self._results, [], None
        return results

    def get_state(self) -> dict[str, Any]:
        """Return the environment's state and the open episode's bookkeeping: arrays and JSON-able values."""
        return {
            "environment": self._environment.get_state(),
            "observation": None if self._observation is None else self._observation.copy(),
            "recent": self._past(),
            "scores": [self._score, self._length, self._game_score],
            "seed": self._seed,
            "num_done": self._num_done,
            "results": [asdict(result) for result in self._results],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called."""
        self._environment.set_state(state["environment"])
        self._observation = None if state["observation"] is None else state["observation"].copy()
        self._recent.clear()
        self._recent.extend(state["recent"].copy())
        self._score, self._length, self._game_score = state["scores"]
        self._seed = state["seed"]
        self._num_done = state["num_done"]
        self._results = [EpisodeResult(**result) for result in state["results"]]

    def _past(self) -> UInt8[np.ndarray, "time 3 height width"]:
        shape = self._environment.observation_space.shape
        assert shape is not None
        return np.stack(self._recent) if self._recent else np.zeros((0, *shape), np.uint8)

    def _reset(self) -> None:
        self._observation, _ = self._environment.reset(seed=self._seed)
        self._seed, self._score, self._length = None, 0.0, 0
        self._recent.clear()

    def _next(self, policy: Policy) -> tuple[Any, ...]:
        """Return what `_step` does, after a reset where the episode has ended."""
        if self._observation is None:
            self._reset()
            policy.begin(self._past())
        return self._step(policy)

    def _step(self, policy: Policy) -> tuple[Any, ...]:
        """Return observation, action, reward, terminated, truncated and whether the game is over."""
        before = self._observation
        assert before is not None
        action = int(policy.act(before[None])[0])
        self._observation, reward, terminated, truncated, info = self._environment.step(action)
        faults.point("collect.unrecorded")
        reward = float(reward)
        self._recent.append(before)
        self._score, self._length = self._score + reward, self._length + 1
        self._game_score += reward
        return before, action, reward, terminated, truncated, info["is_game_over"]

    def _finished(self, terminated: bool, truncated: bool, is_game_over: bool) -> EpisodeResult:
        game_score = self._game_score if is_game_over else None
        result = EpisodeResult(self._score, self._length, terminated, truncated, game_score)
        self._observation = None
        self._recent.clear()
        self._game_score = 0.0 if is_game_over else self._game_score
        return result


def record_episodes(environment: Environment, policy: Policy, num_steps: int, seed: int) -> list[Episode]:
    """Return `num_steps` steps as episodes; the last one, cut short, is neither terminated nor truncated."""
    replay = ReplayBuffer(num_steps, (3, environment.size, environment.size))
    Collector(environment, replay, burn_in=0, seed=seed).collect(policy, num_steps, what="recording")
    return list(replay.episodes())


def _shown(steps: range, what: str | None) -> Iterable[int]:
    return steps if what is None else progress(steps, what=what, unit="step")


def _episode(steps: Sequence[tuple[Any, ...]]) -> Episode:
    observations, actions, rewards, terminated, truncated, _ = zip(*steps, strict=True)
    return Episode(
        np.stack(observations),
        np.array(actions, np.int64),
        np.array(rewards, np.float32),
        np.array(terminated, np.bool_),
        np.array(truncated, np.bool_),
    )
