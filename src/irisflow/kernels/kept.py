"""Weights in the order of a kernel, kept until one of them changes."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor

VERSION = attrgetter("_version")


class Kept:
    """Keeps what is made of the same weights for ever. Copies and pickles have none of it."""

    def __init__(self) -> None:
        self._made: tuple[list[int], Tensor] | None = None  # which weights, and what was made of them

    def of(self, weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` makes of the weights, made anew if one was written to or is another since the last time."""
        which = [*map(VERSION, weights), *map(Tensor.data_ptr, weights)]
        if self._made is None or self._made[0] != which:
            self._made = (which, make())
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave it out of copies."""
        return {"_made": None}
