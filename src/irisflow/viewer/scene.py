"""What the viewer knows of a moment, and what it shows: plain values and NumPy, no torch, no pygame."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

Picture = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Thought:
    """What the policy makes of a frame: the probability of each action, the critic's value, the entropy in nats."""

    probabilities: Float[np.ndarray, " actions"]
    value: float
    entropy: float


@dataclass(frozen=True)
class Guess:
    """What the world model says of a step: the reward, and whether the episode ends."""

    reward: float
    end: bool


@dataclass(frozen=True)
class Moment:
    """One frame and what led to it.

    `pictures` has the frame as `original`, `downscaled` and `agent` (decoded from the tokens); a source lacks those that
    it has not. `reward` and `end` are those of the action before, the world model's own where it imagines; `guess` is what
    it said of the same step of a real environment.
    """

    pictures: dict[str, Picture]
    tokens: Int64[np.ndarray, "rows columns codes"]
    thought: Thought | None
    action: int | None = None
    reward: float = 0.0
    end: bool = False
    truncated: bool = False
    guess: Guess | None = None
    remark: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing follows."""
        return self.end or self.truncated


@dataclass(frozen=True)
class Bar:
    """One action's probability, and whether it was taken."""

    name: str
    share: float
    is_taken: bool


@dataclass(frozen=True)
class Scene:
    """All that is drawn. `rows` are the header: name and value of each fact."""

    title: str
    source: str
    player: str
    picture: Picture
    picture_name: str
    rate: float
    speed: float
    is_paused: bool = False
    is_recording: bool = False
    rows: tuple[tuple[str, str], ...] = ()
    bars: tuple[Bar, ...] = ()
    tokens: Int64[np.ndarray, "rows columns codes"] | None = None
    changed: Bool[np.ndarray, "rows columns"] | None = None
    num_changed: int | None = None
    futures: tuple[Picture, ...] = ()
    future_labels: tuple[str, ...] = ()
    question: str = ""
    status: str = ""
    keys: tuple[tuple[str, str, str], ...] = field(default=())  # group, key, meaning
