"""A GPT's pass of a few tokens behind a cache by the kernel for it, where there is one: imagination's passes on a CPU."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from irisflow.kernels.transformer import can_pass, packed, token_pass
from irisflow.plainly import is_plain

MOST_ROWS = 1024  # tokens of all rollouts together; with more of them oneDNN multiplies as fast
VERSION = attrgetter("_version")

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
    """Keeps the weights of a GPT's layers in the kernel's order until one changes. Copies and pickles have none of it."""

    def __init__(self) -> None:
        self._tables: list[
            dict[str, nn.Parameter | None]
        ] = []  # the parameters; the layers are the same for ever
        self._packed: tuple[list[int], Tensor] | None = None  # which weights, and they in the kernel's order

    def __call__(
        self, gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor], start: int
    ) -> Tokens | None:
        """Return the outputs and fill the caches; None, and nothing is done, where torch must do it."""
        if not _is_steppable(gpt, embeddings, caches):
            return None
        weights = self._weights(gpt, embeddings.shape[-1])
        positions, epsilon = gpt.positions.weight, gpt.norm.eps
        return token_pass(embeddings, positions, weights, caches, gpt.visible, start=start, epsilon=epsilon)

    def _weights(self, gpt: Steppable, width: int) -> Tensor:
        """Return the weights as they are now."""
        if not self._tables:
            modules = (*gpt.blocks.modules(), gpt.norm)
            self._tables = [module._parameters for module in modules if module._parameters]
        own = [weight for table in self._tables for weight in table.values() if weight is not None]
        which = [*map(VERSION, own), *map(Tensor.data_ptr, own)]
        if self._packed is None or self._packed[0] != which:
            self._packed = (which, packed(own, width))
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of copies."""
        return {"_tables": [], "_packed": None}


def _is_steppable(gpt: Steppable, embeddings: Tokens, caches: Sequence[Tensor]) -> bool:
    """Return whether the kernel may be asked: few rows in float32 on a CPU, nothing that watches or changes operations."""
    if torch.compiler.is_compiling() or is_plain() or torch.is_grad_enabled() or gpt.training:
        return False
    if is_in_torch_dispatch_mode() or torch.is_autocast_enabled("cpu"):
        return False
    batch, length, width = embeddings.shape
    return (
        0 < batch * length <= MOST_ROWS
        and all(_is_float(tensor) for tensor in (embeddings, gpt.positions.weight, *caches))
        and all(cache.is_contiguous() for cache in caches)
        and can_pass(caches[0].shape[2], width)
    )


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_cpu and tensor.dtype == torch.float32
