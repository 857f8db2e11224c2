"""Where frames come from: a real environment, the world model, saved episodes."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from irisflow.envs.base import Environment
from irisflow.randomness import derived_seed
from irisflow.records import Episode
from irisflow.viewer.imagination import Future, Imagination
from irisflow.viewer.mind import Frame, Mind, Tokens
from irisflow.viewer.scene import Moment, Picture

Name = Literal["real environment", "world model", "saved episode"]


@dataclass(frozen=True)
class Context:
    """Real frames up to the present one, and the actions between them."""

    frames: UInt8[np.ndarray, "time 3 height width"]
    actions: Int64[np.ndarray, " between"]


class Source(Protocol):
    """A stream of moments that actions move on."""

    name: Name

    def reset(self) -> Moment:
        """Return the first moment of a new episode."""
        ...

    def step(self, action: int) -> Moment:
        """Return what an action leads to."""
        ...

    def context(self) -> Context:
        """Return the newest real frames."""
        ...


class RealEnvironment:
    """The game itself. With an imagination, each moment says what the world model expected of it."""

    name: Name = "real environment"

    def __init__(
        self, environment: Environment, mind: Mind, *, seed: int, imagination: Imagination | None = None
    ) -> None:
        self._environment, self._mind, self._seed = environment, mind, seed
        self._imagination, self._num_episodes = imagination, 0
        self._frames: deque[Frame] = deque(maxlen=64)
        self._actions: deque[int] = deque(maxlen=63)

    def reset(self) -> Moment:
        """Return the first moment of a new game, whose seed depends on the seed and its number only."""
        frame, _ = self._environment.reset(seed=derived_seed(self._seed, "play", self._num_episodes) % 2**31)
        self._num_episodes += 1
        self._mind.begin()
        self._frames.clear()
        self._actions.clear()
        self._frames.append(frame.copy())
        tokens = self._mind.tokens(frame[None])
        if self._imagination is not None:
            self._imagination.start(tokens, np.zeros(0, np.int64))
        return self._moment(frame, tokens)

    def step(self, action: int) -> Moment:
        """Return what an action leads to in the game."""
        guess = None if self._imagination is None else self._imagination.guess(action)
        frame, reward, terminated, truncated, _ = self._environment.step(action)
        self._frames.append(frame.copy())
        self._actions.append(action)
        tokens = self._mind.tokens(frame[None])
        if self._imagination is not None:
            self._imagination.observe(action, tokens)
        moment = self._moment(frame, tokens)
        return Moment(
            moment.pictures,
            moment.tokens,
            moment.thought,
            action,
            float(reward),
            terminated,
            truncated,
            guess,
        )

    def context(self) -> Context:
        """Return the newest frames of the game."""
        count = len(self._frames)
        return Context(
            np.stack(self._frames), np.array(list(self._actions)[-(count - 1) :][: count - 1], np.int64)
        )

    def _moment(self, frame: Frame, tokens: Tokens) -> Moment:
        original = np.asarray(self._environment.render())
        pictures = {
            "original": np.ascontiguousarray(original),
            "downscaled": channel_last(frame),
            "agent": self._mind.picture(tokens),
        }
        return Moment(pictures, self._mind.grid(tokens), self._mind.think(tokens, frame))


class ImaginedEnvironment:
    """The world model in place of a game: every episode starts from real frames, which `starts` hands out."""

    name: Name = "world model"

    def __init__(self, mind: Mind, imagination: Imagination, starts: Callable[[], Context]) -> None:
        self._mind, self._imagination, self._starts = mind, imagination, starts
        self._context = Context(np.zeros((0, 3, 0, 0), np.uint8), np.zeros(0, np.int64))

    def reset(self) -> Moment:
        """Return the last frame of a new context."""
        return self.start_from(self._starts())

    def start_from(self, context: Context) -> Moment:
        """Return the last frame of a context; imagination goes on from there."""
        count = min(len(context.frames), self._imagination.context)
        frames = context.frames[-count:]
        self._context = Context(frames, context.actions[len(context.actions) - (count - 1) :])
        tokens = self._mind.tokens(frames)
        self._imagination.start(tokens, self._context.actions)
        self._mind.remember(frames[:-1])
        return self._moment(tokens[-1:], None, remark=f"from {count} real frames")

    def step(self, action: int) -> Moment:
        """Return what the world model says follows."""
        return self._after(action, self._imagination.step(action))

    def sample(self, action: int, count: int) -> list[tuple[Future, Picture]]:
        """Return several futures of an action with their pictures; nothing moves on."""
        futures = self._imagination.sample(action, count)
        return [(future, self._mind.picture(future.tokens)) for future in futures]

    def choose(self, action: int, future: Future) -> Moment:
        """Return the moment of a future that was sampled; imagination goes on from it."""
        self._imagination.choose(action, future.tokens)
        return self._after(action, future)

    def context(self) -> Context:
        """Return the real frames that imagination started from."""
        return self._context

    @property
    def fill(self) -> tuple[int, int | None]:
        """See `Imagination.fill`."""
        return self._imagination.fill

    def _after(self, action: int, future: Future) -> Moment:
        return self._moment(future.tokens, action, reward=future.reward, end=future.end)

    def _moment(
        self, tokens: Tokens, action: int | None, *, reward: float = 0.0, end: bool = False, remark: str = ""
    ) -> Moment:
        pictures = {"agent": self._mind.picture(tokens)}
        thought = self._mind.think(tokens)
        return Moment(pictures, self._mind.grid(tokens), thought, action, reward, end, remark=remark)


class SavedEpisodes:
    """Episodes on disk, one step after another, forwards and backwards. Actions are those that were taken."""

    name: Name = "saved episode"
    BURN_IN = 20

    def __init__(self, mind: Mind, labels: Sequence[str], load: Callable[[int], Episode]) -> None:
        if not labels:
            raise ValueError("there are no episodes to browse")
        self._mind, self._labels, self._load = mind, labels, load
        self.number, self.index = 0, 0
        self._episode = load(0)

    def reset(self) -> Moment:
        """Return the first moment of the present episode."""
        return self.seek(0)

    def step(self, action: int) -> Moment:  # noqa: ARG002
        """Return the next moment as it was recorded, the last one again at the end."""
        last = len(self._episode) - 1
        if self.index < last:
            self.index += 1
        return self._moment()

    def seek(self, index: int) -> Moment:
        """Return the moment at a step; the policy has seen the frames just before it."""
        self.index = min(max(index, 0), len(self._episode) - 1)
        self._mind.remember(self._episode.observations[max(0, self.index - self.BURN_IN) : self.index])
        return self._moment()

    def turn_to(self, number: int) -> Moment:
        """Return the first moment of another episode. Raises DataError if its file is damaged: then nothing changes."""
        number %= len(self._labels)
        self._episode, self.number = self._load(number), number
        return self.seek(0)

    def context(self) -> Context:
        """Return the frames up to the present one."""
        first = max(0, self.index - 63)
        return Context(
            self._episode.observations[first : self.index + 1], self._episode.actions[first : self.index]
        )

    @property
    def where(self) -> str:
        """Which episode and step this is."""
        step = f"step {self.index + 1} of {len(self._episode)}"
        return f"episode {self.number + 1} of {len(self._labels)} ({self._labels[self.number]}), {step}"

    @property
    def total(self) -> float:
        """The return up to the present moment."""
        return float(self._episode.rewards[: self.index].sum())

    @property
    def is_at_end(self) -> bool:
        """Whether this is the last step."""
        return self.index == len(self._episode) - 1

    def _moment(self) -> Moment:
        episode, index = self._episode, self.index
        frame = np.ascontiguousarray(episode.observations[index])
        tokens = self._mind.tokens(frame[None])
        pictures = {"downscaled": channel_last(frame), "agent": self._mind.picture(tokens)}
        thought = self._mind.think(tokens, frame)
        action = int(episode.actions[index - 1]) if index else None
        reward = float(episode.rewards[index - 1]) if index else 0.0
        return Moment(pictures, self._mind.grid(tokens), thought, action, reward)


def channel_last(frame: Frame) -> Picture:
    """Return a frame as a picture."""
    return np.ascontiguousarray(frame.transpose(1, 2, 0))
