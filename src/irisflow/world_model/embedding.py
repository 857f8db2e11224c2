"""Frames and actions as one sequence of vectors: a block is K frame tokens, then one action token."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.games import FULL_ACTIONS


class FullActionTable(nn.Embedding):
    """A table of all 18 actions, looked up by a game's own action numbers.

    `action_ids` says which of the 18 each of them is. It belongs to the game, not to the weights: a table that was trained
    on many games serves any of them.
    """

    action_ids: Tensor

    def __init__(self, action_ids: Sequence[int], embed_dim: int) -> None:
        super().__init__(len(FULL_ACTIONS), embed_dim)
        self.register_buffer("action_ids", torch.tensor(action_ids), persistent=False)

    def forward(self, actions: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape embed"]:
        """Return the vectors of a game's actions."""
        return super().forward(self.action_ids[actions])


class Embedding(nn.Module):
    """One table for frame tokens, one for actions: the game's own, or, with `action_ids`, the full set."""

    def __init__(
        self, vocab_size: int, num_actions: int, embed_dim: int, *, action_ids: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.frame_tokens = nn.Embedding(vocab_size, embed_dim)
        self.actions = (
            nn.Embedding(num_actions, embed_dim)
            if action_ids is None
            else FullActionTable(action_ids, embed_dim)
        )

    def forward(
        self, tokens: Int64[Tensor, "batch time tokens"], actions: Int64[Tensor, "batch time"]
    ) -> Float[Tensor, "batch length embed"]:
        """Return the sequence of whole blocks, (K + 1) x time long."""
        blocks = torch.cat([self.frame_tokens(tokens), self.actions(actions)[:, :, None]], dim=2)
        return rearrange(blocks, "batch time position embed -> batch (time position) embed")

    def continued(
        self, tokens: Int64[Tensor, "batch time tokens"], actions: Int64[Tensor, "batch time"]
    ) -> Float[Tensor, "batch length embed"]:
        """Return the sequence in which each action comes before the frame that it led to."""
        blocks = torch.cat([self.actions(actions)[:, :, None], self.frame_tokens(tokens)], dim=2)
        return rearrange(blocks, "batch time position embed -> batch (time position) embed")
