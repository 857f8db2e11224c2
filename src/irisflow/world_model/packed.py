"""Weights in the order of a kernel, kept until one of them changes; and when a kernel may be asked at all."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from irisflow.plainly import is_plain

VERSION = attrgetter("_version")


class Packed:
    """Keeps the parameters of the same modules for ever in another order. Copies and pickles have none of it."""

    def __init__(self) -> None:
        self._tables: list[dict[str, nn.Parameter | None]] = []  # the parameters, as the modules hold them
        self._packed: tuple[list[int], Tensor] | None = None  # which parameters, and they in the other order

    def of(self, modules: Iterable[nn.Module], pack: Callable[[list[nn.Parameter]], Tensor]) -> Tensor:
        """Return what `pack` makes of the modules' parameters as they are now."""
        if not self._tables:
            all_modules = [inner for module in modules for inner in module.modules()]
            self._tables = [module._parameters for module in all_modules if module._parameters]
        own = [weight for table in self._tables for weight in table.values() if weight is not None]
        which = [*map(VERSION, own), *map(Tensor.data_ptr, own)]
        if self._packed is None or self._packed[0] != which:
            self._packed = (which, pack(own))
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out of copies."""
        return {"_tables": [], "_packed": None}


def may_ask_kernels() -> bool:
    """Return whether there is no gradient, and nothing that watches or changes torch's operations."""
    is_watched = torch.compiler.is_compiling() or is_plain() or is_in_torch_dispatch_mode()
    return not (is_watched or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))


def is_float(tensor: Tensor) -> bool:
    """Return whether a tensor is of the kind that kernels take: float32 on a CPU."""
    return tensor.is_cpu and tensor.dtype == torch.float32
