"""Frames and actions as one sequence of vectors: a block is K frame tokens, then one action token."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn


class Embedding(nn.Module):
    """One table for frame tokens, one for actions."""

    def __init__(self, vocab_size: int, num_actions: int, embed_dim: int) -> None:
        super().__init__()
        self.frame_tokens = nn.Embedding(vocab_size, embed_dim)
        self.actions = nn.Embedding(num_actions, embed_dim)

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
