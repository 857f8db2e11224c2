"""The world model one step at a time, from real frames on: to play in it, or to hear what it expects."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from irisflow.viewer.mind import Tokens
from irisflow.viewer.scene import Guess
from irisflow.world_model.world_model import State, WorldModel


@dataclass(frozen=True)
class Future:
    """One thing that may follow an action."""

    tokens: Tokens
    reward: float
    end: bool


class Imagination:
    """A stream of frames in the world model. Where its window is full, it forgets all but the newest, as imagination does.

    While it only listens (`guess`, `observe`) it keeps half a window of the real frames instead.
    """

    def __init__(self, world_model: WorldModel, *, generator: torch.Generator, max_blocks: int) -> None:
        self._model, self._generator = world_model, generator
        window = world_model.backbone.window
        self.num_blocks = max_blocks if window is None else window // (world_model.tokens_per_frame + 1)
        self.context = max(1, self.num_blocks // 2)
        self._state: State | None = None
        self._recent: deque[tuple[Tokens, int]] = deque(maxlen=self.context)

    def start(self, tokens: Int64[Tensor, "time tokens"], actions: Int64[np.ndarray, " between"]) -> None:
        """Begin with real frames and the actions between them; the last one is current. Only the newest count."""
        tokens, count = tokens[-self.context :], min(self.context, len(tokens))
        between = [int(action) for action in actions[len(actions) - (count - 1) :]] if count > 1 else []
        self._recent.clear()
        self._recent.extend((one[None], action) for one, action in zip(tokens, [-1, *between], strict=True))
        self._state = self._observed()

    def step(self, action: int) -> Future:
        """Return one future, drawn, and go on with it."""
        prediction, self._state = self._model.imagine(
            self._current, self._actions(action), generator=self._generator
        )
        assert prediction.tokens is not None
        return Future(prediction.tokens, float(prediction.rewards[0]), bool(prediction.ends[0]))

    def sample(self, action: int, count: int) -> list[Future]:
        """Return futures drawn apart, and stay where it is."""
        futures = []
        for _ in range(count):
            prediction, _ = self._model.imagine(
                self._current, self._actions(action), generator=self._generator
            )
            assert prediction.tokens is not None
            futures.append(Future(prediction.tokens, float(prediction.rewards[0]), bool(prediction.ends[0])))
        return futures

    def choose(self, action: int, tokens: Tokens) -> None:
        """Go on with the frame that a person picked."""
        if not self._has_room:
            frame = self._current.frame
            assert frame is not None
            self._state = self._model.observe(None, frame[:, None], frame[:, :0])
        self._state = self._model.observe(self._current, tokens[:, None], self._actions(action)[:, None])

    def guess(self, action: int) -> Guess:
        """Return the likeliest reward and end of an action, and stay where it is."""
        prediction, _ = self._model.imagine(
            self._current,
            self._actions(action),
            generator=self._generator,
            predict_frame=False,
            greedy=True,
        )
        return Guess(float(prediction.rewards[0]), bool(prediction.ends[0]))

    def observe(self, action: int, tokens: Tokens) -> None:
        """Go on with the real frame that followed an action."""
        self._recent.append((tokens, action))
        if self._has_room:
            self._state = self._model.observe(self._current, tokens[:, None], self._actions(action)[:, None])
        else:
            self._state = self._observed()

    @property
    def fill(self) -> tuple[int, int | None]:
        """How many tokens the world model remembers, and how many it can; None where there is no limit."""
        memory = self._current.memory
        return 0 if memory is None else memory.length, self._model.backbone.window

    @property
    def _current(self) -> State:
        if self._state is None:
            raise ValueError("the world model has seen no frame yet: call start")
        return self._state

    @property
    def _has_room(self) -> bool:
        length, window = self.fill
        return window is None or length + self._model.tokens_per_frame + 1 <= window

    def _observed(self) -> State:
        tokens = torch.stack([one for one, _ in self._recent], dim=1)
        actions = self._actions(*(action for _, action in list(self._recent)[1:]))
        return self._model.observe(None, tokens, actions[None])

    def _actions(self, *actions: int) -> Int64[Tensor, " actions"]:
        device = next(self._model.parameters()).device
        return torch.tensor(actions, dtype=torch.int64, device=device)
