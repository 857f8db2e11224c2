"""What every backbone gives: a causal sequence model that can be continued."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Memory(Protocol):
    """What a backbone keeps of the tokens it has seen; only the backbone knows what is inside."""

    @property
    def length(self) -> int:
        """Number of tokens seen."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """A module. Whatever the chunking, the outputs are those of one pass (in eval mode)."""

    embed_dim: int
    window: int | None  # most tokens that a memory holds; None where there is no limit

    def __call__(
        self, embeddings: Float[Tensor, "batch length embed"], memory: Any | None = None
    ) -> tuple[Float[Tensor, "batch length embed"], Memory]:
        """Return the outputs at all positions and the memory of everything seen.

        A memory is consumed by the call that continues it: use the returned one afterwards. No gradient flows
        through a memory. Raises ConfigError where the window is exceeded.
        """
        ...
