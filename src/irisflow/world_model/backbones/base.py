"""What every backbone gives: a causal sequence model that can be continued, and branched."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Sequence = Float[Tensor, "batch length embed"]
Branches = Float[Tensor, "batch branches queries embed"]


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

    def __call__(self, embeddings: Sequence, memory: Any | None = None) -> tuple[Sequence, Memory]:
        """Return the outputs at all positions and the memory of everything seen.

        Continuing a memory a second time discards the first continuation: its memory must not be used any more. No
        gradient flows through a memory. Raises ConfigError where the window is exceeded.
        """
        ...

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return the outputs at all positions, and those of queries put after every `every` tokens but the last.

        The queries of a branch see what came before them and each other causally, stand at the positions that
        the tokens after the branch have, and are seen by nothing else. Gradients flow to all inputs.
        """
        ...


def branches_one_by_one(
    backbone: Any, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
) -> tuple[Sequence, Branches]:
    """Return what `Backbone.branch` returns, by one pass for each branch: slow, for any backbone.

    It is the definition that the faster ways are tested against.
    """
    batch, length, _ = embeddings.shape
    put_after = queries.expand(batch, -1, -1)
    branches = []
    for end in range(every, length, every):
        outputs, _ = backbone(torch.cat([embeddings[:, :end], put_after], dim=1))
        branches.append(outputs[:, end:])
    outputs, _ = backbone(embeddings)
    empty = embeddings.new_zeros(batch, 0, *queries.shape)
    return outputs, torch.stack(branches, dim=1) if branches else empty


def branched(
    embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
) -> Float[Tensor, "batch all embed"]:
    """Return one sequence of the embeddings and, behind them, the queries of every branch."""
    batch, length, _ = embeddings.shape
    copies = queries.repeat((length - 1) // every, 1).expand(batch, -1, -1)
    return torch.cat([embeddings, copies], dim=1)


def branched_positions(length: int, num_queries: int, *, every: int) -> Int64[Tensor, " all"]:
    """Return where in time each member of a `branched` sequence stands."""
    starts = torch.arange(every, length, every)
    return torch.cat([torch.arange(length), (starts[:, None] + torch.arange(num_queries)).flatten()])


def branched_visibility(length: int, num_queries: int, *, every: int) -> Bool[Tensor, "all all"]:
    """Return who (row) sees whom (column) in a `branched` sequence, the past only."""
    positions = branched_positions(length, num_queries, every=every)
    return (positions[:, None] >= positions) & belonging(length, num_queries, every=every)


def belonging(length: int, num_queries: int, *, every: int) -> Bool[Tensor, "all all"]:
    """Return who (row) may see whom (column) in a `branched` sequence, were there no time.

    The trunk may see the trunk; a branch may see itself and the trunk before it.
    """
    owner = torch.arange((length - 1) // every).repeat_interleave(num_queries)
    branch_of = torch.cat([torch.full((length,), -1), owner])  # -1: the trunk
    starts = torch.cat([torch.full((length,), length), (owner + 1) * every])
    positions = branched_positions(length, num_queries, every=every)
    return (branch_of[:, None] == branch_of) | ((branch_of == -1) & (positions < starts[:, None]))


def split_branches(
    outputs: Float[Tensor, "batch all embed"], length: int, num_queries: int
) -> tuple[Sequence, Branches]:
    """Return the trunk's outputs and those of each branch, from the outputs of a `branched` sequence."""
    batch, _, embed = outputs.shape
    return outputs[:, :length], outputs[:, length:].reshape(batch, -1, num_queries, embed)
