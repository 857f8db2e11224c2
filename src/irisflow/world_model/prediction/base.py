"""What every frame prediction gives: it turns backbone outputs into the tokens of the next frame."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding


@runtime_checkable
class FramePrediction(Protocol):
    """A module with the head that reads frame tokens."""

    def __call__(
        self, outputs: Float[Tensor, "batch time positions embed"]
    ) -> Float[Tensor, "batch predictions vocab"]:
        """Return the logits of a pass over whole blocks: K per block, ordered as the tokens they predict.

        The first predicts the second token of the first frame; the last the first token after the end.
        """
        ...

    def sample(
        self,
        output: Float[Tensor, "batch embed"],
        memory: Memory,
        *,
        backbone: Backbone,
        embedding: Embedding,
        generator: torch.Generator,
        greedy: bool = False,
    ) -> tuple[Int64[Tensor, "batch tokens"], Memory]:
        """Return the frame after the action whose output this is, and a memory of all but its last token.

        `greedy` takes the likeliest tokens and draws nothing.
        """
        ...
