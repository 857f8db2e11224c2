"""A GPT's pass of a few tokens behind a cache by the kernel for it, where there is one: imagination's passes on a CPU."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

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
        self._tables: list[dict[str, nn.Parameter | None]] = []  # the parameters, as the modules hold them

    def __call__(
        self, gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor], start: int
    ) -> Tokens | None:
        """Return the outputs and fill the caches; None, and nothing is done, where torch must do it."""
        batch, length, width = embeddings.shape
        positions, num_heads = gpt.positions.weight, caches[0].shape[2]
        is_few = 0 < batch * length <= MOST_ROWS and not (torch.is_grad_enabled() or gpt.training)
        if not (is_few and can_pass(embeddings, positions, num_heads) and caches[0].is_contiguous()):
            return None
        parameters = self._parameters(gpt)
        weights = self._weights.of(parameters, partial(packed, parameters, width))
        return token_pass(
            embeddings, positions, weights, caches, gpt.visible, start=start, epsilon=gpt.norm.eps
        )

    def _parameters(self, gpt: Steppable) -> list[nn.Parameter]:
        """Return the parameters in the order of the layers. Asking a GPT for them takes longer than its pass."""
        if not self._tables:
            modules = [*gpt.blocks.modules(), gpt.norm]
            self._tables = [module._parameters for module in modules if module._parameters]
        return [weight for table in self._tables for weight in table.values() if weight is not None]

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of copies."""
        return {"_weights": Kept(), "_tables": []}
