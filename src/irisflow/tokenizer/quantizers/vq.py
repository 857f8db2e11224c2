"""Vector quantization by nearest neighbour with a straight-through gradient. IRIS, section 2.1."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.tokenizer.quantizers.base import Quantized


@dataclass(frozen=True)
class Config:
    """Size of the codebook, and the weight of the term that pulls latents to their codes."""

    vocab_size: int
    embed_dim: int
    beta: float


def build(config: Config) -> "VectorQuantizer":
    """Return the quantizer."""
    return VectorQuantizer(config.vocab_size, config.embed_dim, beta=config.beta)


class VectorQuantizer(nn.Module):
    """A codebook; a latent vector becomes the nearest code."""

    def __init__(self, vocab_size: int, embed_dim: int, *, beta: float) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.beta = beta
        self.codebook = nn.Embedding(vocab_size, embed_dim)
        nn.init.uniform_(self.codebook.weight, -1 / vocab_size, 1 / vocab_size)

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the nearest codes; the loss is the codebook term plus beta times the commitment term."""
        tokens = self._nearest(rearrange(latents, "b e h w -> b (h w) e"))
        codes = self.lookup(tokens, height=latents.shape[2])
        loss = F.mse_loss(codes, latents.detach()) + self.beta * F.mse_loss(latents, codes.detach())
        return Quantized(latents + (codes - latents).detach(), codes, tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        codes: Tensor = rearrange(self.codebook(tokens), "b (h w) e -> b e h w", h=height)
        return codes.contiguous()

    @torch.no_grad()
    def _nearest(self, vectors: Float[Tensor, "batch tokens embed"]) -> Int64[Tensor, "batch tokens"]:
        codes = self.codebook.weight
        squares = vectors.pow(2).sum(-1, keepdim=True) + codes.pow(2).sum(-1)
        return (squares - 2 * vectors @ codes.T).argmin(dim=-1)
