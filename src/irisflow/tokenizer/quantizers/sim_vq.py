"""Vector quantization with a fixed codebook seen through one learned projection, which moves all codes at once.

Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer" (SimVQ), section 4,
by the library vector_quantize_pytorch. The gradient is the paper's, straight through; the library's rotation is not used.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import SimVQ

from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors

LEAST = {"vocab_size": 2, "embed_dim": 1, "beta": 0}


@dataclass(frozen=True)
class Config:
    """Size of the codebook, and weight of the term that pulls latents to their codes."""

    vocab_size: int
    embed_dim: int
    beta: float = 0.25


def build(config: Config) -> "ProjectedQuantizer":
    """Return the quantizer."""
    return ProjectedQuantizer(config.vocab_size, config.embed_dim, beta=config.beta)


class ProjectedQuantizer(nn.Module):
    """Random vectors that never change, times a matrix that learns: a latent vector becomes the nearest product."""

    tokens_per_position = 1

    def __init__(self, vocab_size: int, embed_dim: int, *, beta: float) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.library = SimVQ(
            embed_dim, vocab_size, rotation_trick=False, input_to_quantize_commit_loss_weight=beta
        )

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the nearest codes; the loss is the codebook term plus beta times the commitment term."""
        vectors, tokens, loss = self.library(as_vectors(latents))
        codes = as_map(vectors, height=latents.shape[2])
        return Quantized(codes, self.lookup(tokens, height=latents.shape[2]), tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high, in float32 under autocast too."""
        with torch.autocast(tokens.device.type, enabled=False):
            vectors = F.embedding(tokens, self.library.codebook)
        return as_map(vectors, height=height)
