"""A GPT's pass of a few tokens behind a cache by the kernel for it, where there is one: imagination's passes on a CPU."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.kernels.kept import Kept
from irisflow.kernels.transformer import can_pass, packed, token_pass

MOST_ROWS = 1024  # tokens of all rollouts together; with more of them oneDNN multiplies as fast

Tokens = Float[Tensor, "batch length embed"]


@runtime_checkable
class Steppable(Protocol):
    """What is asked of a GPT."""

    training: bool
    visible: Tensor
    positions: nn.Embedding
    blocks: nn.ModuleList
    norm: nn.LayerNorm


class Stepped:
    """Does passes of one GPT, whose weights it keeps in the kernel's order."""

    def __init__(self) -> None:
        self._weights = Kept()

    def __call__(
        self,
        gpt: Steppable,
        embeddings: Tokens,
        caches: Sequence[Tensor],
        start: int,
        weights: Tensor | None,
    ) -> tuple[Tokens, Tensor] | None:
        """Return the outputs and the weights used, and fill the caches; None, and nothing is done, where torch must do it.

        `weights` are those returned by the pass before, if the kernel did that: a cache belongs to the weights that made it.
        """
        batch, length, width = embeddings.shape
        positions, num_heads = gpt.positions.weight, caches[0].shape[2]
        is_few = 0 < batch * length <= MOST_ROWS and not (torch.is_grad_enabled() or gpt.training)
        if not (is_few and can_pass(embeddings, positions, num_heads) and caches[0].is_contiguous()):
            return None
        if weights is None:
            parameters = [*gpt.blocks.parameters(), *gpt.norm.parameters()]
            weights = self._weights.of(parameters, partial(packed, parameters, width))
        epsilon = gpt.norm.eps
        outputs = token_pass(
            embeddings, positions, weights, caches, gpt.visible, start=start, epsilon=epsilon
        )
        return outputs, weights
