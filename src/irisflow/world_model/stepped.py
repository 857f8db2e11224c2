"""A GPT's pass of a few tokens behind a cache by the kernel for it, where there is one: imagination's passes on a CPU."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.kernels.kept import Kept
from irisflow.kernels.transformer import can_pass, drawn_frame, packed, token_pass
from irisflow.randomness import SHARES, Source, uniform
from irisflow.world_model.heads import Head

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
        if not self._can(gpt, embeddings, caches):
            return None
        weights = self._packed(gpt) if weights is None else weights
        positions, epsilon = gpt.positions.weight, gpt.norm.eps
        outputs = token_pass(
            embeddings, positions, weights, caches, gpt.visible, start=start, epsilon=epsilon
        )
        return outputs, weights

    def frame(
        self,
        gpt: Steppable,
        output: Float[Tensor, "batch embed"],
        caches: Sequence[Tensor],
        start: int,
        weights: Tensor | None,
        *,
        num_tokens: int,
        head: Head,
        table: Float[Tensor, "vocab embed"],
        source: Source,
    ) -> tuple[Int64[Tensor, "batch tokens"], Tensor] | None:
        """Return a frame's tokens, each drawn from the output at the one before, and the weights used, as a pass does."""
        head_weights = head.packed_for(output)
        if head_weights is None or not (self._can(gpt, output[:, None], caches) and table.is_contiguous()):
            return None
        weights = self._packed(gpt) if weights is None else weights
        numbers = uniform((num_tokens, len(output)), source)
        tokens = drawn_frame(
            output,
            head_weights,
            table,
            numbers,
            gpt.positions.weight,
            weights,
            caches,
            gpt.visible,
            start=start,
            shares=SHARES,
            epsilon=gpt.norm.eps,
        )
        return tokens, weights

    def _can(self, gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor]) -> bool:
        is_few = 0 < embeddings.shape[0] * embeddings.shape[1] <= MOST_ROWS
        is_asked = is_few and not (torch.is_grad_enabled() or gpt.training) and caches[0].is_contiguous()
        return is_asked and can_pass(embeddings, gpt.positions.weight, caches[0].shape[2])

    def _packed(self, gpt: Steppable) -> Tensor:
        parameters = [*gpt.blocks.parameters(), *gpt.norm.parameters()]
        return self._weights.of(parameters, partial(packed, parameters, gpt.positions.weight.shape[1]))
