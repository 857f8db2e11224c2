"""What every frame prediction gives: it turns backbone outputs into the tokens of the next frame."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.randomness import Source
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.heads import IGNORED

Blocks = Float[Tensor, "batch time positions embed"]


@dataclass(frozen=True)
class Pass:
    """What a backbone said of whole blocks: K frame tokens and an action each, the action last."""

    outputs: Blocks
    branches: Float[Tensor, "batch branches queries embed"] | None = None  # see `Backbone.branch`

    @property
    def at_actions(self) -> Float[Tensor, "batch time embed"]:
        """The outputs that know the step's action: what follows it is read from them."""
        return self.outputs[:, :, -1]


@runtime_checkable
class FramePrediction(Protocol):
    """A module with the head that reads frame tokens.

    `pending` is how many of a frame's last tokens `sample` leaves for the next pass: the world model forwards them
    together with the next action.
    """

    pending: int

    def read(self, blocks: Blocks, *, backbone: Backbone) -> Pass:
        """Return the backbone's pass over embedded blocks, with all that `loss` and `likeliest` need."""
        ...

    def loss(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the predicted frame tokens; steps where the mask is false do not count."""
        ...

    def likeliest(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"]
    ) -> Int64[Tensor, "batch later tokens"]:
        """Return the likeliest tokens of every frame but the first, given the real past (teacher forced)."""
        ...

    def sample(
        self,
        output: Float[Tensor, "batch embed"],
        memory: Memory,
        *,
        backbone: Backbone,
        embedding: Embedding,
        generator: Source,
        greedy: bool = False,
    ) -> tuple[Int64[Tensor, "batch tokens"], Memory]:
        """Return the frame after the action whose output this is, and a memory of all but its `pending` last tokens.

        `greedy` takes the likeliest tokens and draws nothing.
        """
        ...


def mean_cross_entropy(
    logits: Float[Tensor, "*targets vocab"],
    tokens: Int64[Tensor, "*targets"],
    *,
    counted: Bool[Tensor, "*targets"],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in float32, over the tokens that count; 0 where none does."""
    labels = tokens.masked_fill(~counted, IGNORED).flatten()
    total = F.cross_entropy(logits.float().flatten(0, -2), labels, ignore_index=IGNORED, reduction="sum")
    return total / counted.sum().clamp(min=1)
