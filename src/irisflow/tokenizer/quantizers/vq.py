"""Vector quantization by nearest neighbour with a straight-through gradient. IRIS, section 2.1."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors

LEAST = {"vocab_size": 2, "embed_dim": 1, "beta": 0, "revive_after": 0}


@dataclass(frozen=True)
class Config:
    """Size of the codebook, weight of the term that pulls latents to their codes, and what keeps codes in use.

    IRIS does nothing for the last: `revive_after` 0. Else a code that no latent chose in as many training batches
    moves onto a latent that is far from all codes.
    """

    vocab_size: int
    embed_dim: int
    beta: float
    revive_after: int = 0


def build(config: Config) -> "VectorQuantizer":
    """Return the quantizer."""
    sizes = (config.vocab_size, config.embed_dim)
    return VectorQuantizer(*sizes, beta=config.beta, revive_after=config.revive_after)


class VectorQuantizer(nn.Module):
    """A codebook; a latent vector becomes the nearest code."""

    idle: Tensor
    tokens_per_position = 1

    def __init__(self, vocab_size: int, embed_dim: int, *, beta: float, revive_after: int = 0) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.beta = beta
        self.codebook = nn.Embedding(vocab_size, embed_dim)
        nn.init.uniform_(self.codebook.weight, -1 / vocab_size, 1 / vocab_size)
        self.revive_after = revive_after
        if revive_after:
            self.register_buffer(
                "idle", torch.zeros(vocab_size, dtype=torch.long)
            )  # batches since last chosen

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the nearest codes; the loss is the codebook term plus beta times the commitment term."""
        vectors = as_vectors(latents)
        tokens = self._nearest(vectors)
        if self.revive_after and self.training:
            self._revive(vectors.flatten(0, 1), tokens.flatten())
        codes = self.lookup(tokens, height=latents.shape[2])
        loss = F.mse_loss(codes, latents.detach()) + self.beta * F.mse_loss(latents, codes.detach())
        return Quantized(latents + (codes - latents).detach(), codes, tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        return as_map(self.codebook(tokens), height=height)

    @torch.no_grad()
    def _revive(self, vectors: Float[Tensor, "vectors embed"], tokens: Int64[Tensor, " vectors"]) -> None:
        """Move codes that have been idle for too long onto the latents farthest from their codes, without a draw.

        At most an eighth of the batch's latents become codes at once.
        """
        self.idle += 1
        self.idle[tokens] = 0
        distances = (vectors - self.codebook.weight[tokens]).pow(2).sum(-1)
        farthest = distances.topk(max(1, len(vectors) // 8)).indices
        dead = (self.idle >= self.revive_after).nonzero().flatten()[: len(farthest)]
        self.codebook.weight[dead] = vectors[farthest[: len(dead)]]
        self.idle[dead] = 0

    @torch.no_grad()
    def _nearest(self, vectors: Float[Tensor, "batch tokens embed"]) -> Int64[Tensor, "batch tokens"]:
        codes = self.codebook.weight
        squares = vectors.pow(2).sum(-1, keepdim=True) + codes.pow(2).sum(-1)
        return (squares - 2 * vectors @ codes.T).argmin(dim=-1)
