"""A GPT's pass of a few tokens behind a cache by the kernel for it, where there is one: imagination's passes on a CPU."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.kernels.transformer import can_pass, packed, token_pass
from irisflow.world_model.packed import Packed, is_float, may_ask_kernels

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
    """Does passes of a GPT, whose weights it keeps in the kernel's order."""

    def __init__(self) -> None:
        self._weights = Packed()

    def __call__(
        self, gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor], start: int
    ) -> Tokens | None:
        """Return the outputs and fill the caches; None, and nothing is done, where torch must do it."""
        if not may_ask_kernels() or gpt.training or not _is_fit(gpt, embeddings, caches):
            return None
        pack = partial(packed, width=embeddings.shape[-1])
        weights = self._weights.of((gpt.blocks, gpt.norm), pack)
        positions, epsilon = gpt.positions.weight, gpt.norm.eps
        return token_pass(embeddings, positions, weights, caches, gpt.visible, start=start, epsilon=epsilon)


def _is_fit(gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor]) -> bool:
    """Return whether the kernel is for such tensors: not too many rows, all of them float32 on a CPU."""
    batch, length, width = embeddings.shape
    return (
        0 < batch * length <= MOST_ROWS
        and all(is_float(tensor) for tensor in (embeddings, gpt.positions.weight, *caches))
        and all(cache.is_contiguous() for cache in caches)
        and can_pass(caches[0].shape[2], width)
    )
