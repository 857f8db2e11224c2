"""The typed records that cross module boundaries. Shapes: `time` counts agent steps, `tokens` is K."""

from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Episode:
    """Consecutive agent steps; `observations[t]` is what was seen before `actions[t]`.

    The observation after the last step is not kept. `terminated` and `truncated` may be true at the last step only.
    """

    observations: UInt8[np.ndarray, "time 3 height width"]
    actions: Int64[np.ndarray, " time"]
    rewards: Float32[np.ndarray, " time"]
    terminated: Bool[np.ndarray, " time"]
    truncated: Bool[np.ndarray, " time"]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def score(self) -> float:
        """Undiscounted sum of the raw rewards."""
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Batch:
    """Segments of episodes, padded; `mask` is false on padding, where every other field is zero."""

    observations: Float[Tensor, "batch time channel height width"] | None  # in [0, 1]; None where tokens do
    actions: Int64[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    ends: Bool[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    slots: Int64[Tensor, "batch time"] | None = None  # where the buffer keeps the steps; any on padding
    tokens: Int64[Tensor, "batch time tokens"] | None = None  # where someone encoded the observations already
    pictures: Float[Tensor, "batch time channel height width"] | None = (
        None  # and decoded them again; any on padding
    )

    @property
    def frames(self) -> Float[Tensor, "batch time channel height width"]:
        """The observations. Raises ValueError where there are only tokens."""
        if self.observations is None:
            raise ValueError("this batch was drawn without observations")
        return self.observations

    def to(self, device: torch.device) -> Self:
        """Return the same batch on another device."""
        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: tensor.to(device) for name, tensor in present.items()})

    def with_tokens(
        self,
        tokens: Int64[Tensor, "batch time tokens"],
        pictures: Float[Tensor, "batch time channel height width"] | None = None,
    ) -> Self:
        """Return the same batch with the tokens of its observations, and the pictures that they stand for."""
        return replace(self, tokens=tokens, pictures=pictures)


@dataclass(frozen=True)
class TokenBatch:
    """Segments as the world model sees them: each observation is K codes."""

    tokens: Int64[Tensor, "batch time tokens"]
    actions: Int64[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    ends: Bool[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class Prediction:
    """What the world model says comes after an action."""

    rewards: Float[Tensor, " batch"]
    ends: Bool[Tensor, " batch"]
    tokens: Int64[Tensor, "batch tokens"] | None  # None where the caller did not ask for the next frame


@dataclass(frozen=True)
class Rollout:
    """Imagined steps: at step t the policy saw `views[:, t]` and got `rewards[:, t]` and `ends[:, t]`."""

    views: Float[Tensor, "batch horizon channels height width"]  # pictures in [0, 1], or maps of codes
    actions: Int64[Tensor, "batch horizon"]
    logits: Float[Tensor, "batch horizon actions"]
    values: Float[Tensor, "batch horizon"]
    rewards: Float[Tensor, "batch horizon"]
    ends: Bool[Tensor, "batch horizon"]


@dataclass(frozen=True)
class Loss:
    """Named terms, already weighted; what is minimised is their sum. `metrics` are watched, not minimised."""

    terms: dict[str, Float[Tensor, ""]]
    metrics: dict[str, Float[Tensor, ""]] = field(default_factory=dict)

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()
