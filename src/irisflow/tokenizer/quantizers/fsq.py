"""Finite scalar quantization: a few numbers, each rounded to one of a few levels; there is no codebook to learn.

Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", section 3 and appendix A.1, by the library
vector_quantize_pytorch.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ

from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors

LEAST = {"vocab_size": 4, "embed_dim": 1, "levels": 3}


@dataclass(frozen=True)
class Config:
    """Number of codes, width of the map, and the levels of each number; their product is the number of codes.

    An empty list stands for eights and fours, as many eights as can be: [8, 8, 8] for 512, [8, 8, 4] for 256. The paper's
    own levels multiply to less than a power of two ([8, 6, 5] to 240); give them with that `tokenizer.vocab_size`.
    """

    vocab_size: int
    embed_dim: int
    levels: list[int]


def build(config: Config) -> "ScalarQuantizer":
    """Return the quantizer. Raises ConfigError for levels that do not multiply to the vocabulary size."""
    levels = list(config.levels) or levels_for(config.vocab_size)
    if math.prod(levels) != config.vocab_size:
        raise ConfigError(
            f"tokenizer.quantizer.levels: {levels} make {math.prod(levels)} codes, but tokenizer.vocab_size is"
            f" {config.vocab_size}. Allowed: levels whose product is that, or none, which makes them from it."
        )
    return ScalarQuantizer(levels, config.embed_dim)


def levels_for(vocab_size: int) -> list[int]:
    """Return levels of 8 and 4 whose product is a power of two. Raises ConfigError for another number."""
    bits = vocab_size.bit_length() - 1
    if vocab_size != 1 << bits:
        raise ConfigError(
            f"tokenizer.quantizer.levels is empty, and tokenizer.vocab_size is {vocab_size}. Allowed without levels:"
            " a power of two, 4 or more; else give levels with that product."
        )
    num_fours = -bits % 3
    return [8] * ((bits - 2 * num_fours) // 3) + [4] * num_fours


class ScalarQuantizer(nn.Module):
    """A position's vector is projected to a few numbers, which are bounded, rounded and projected back."""

    tokens_per_position = 1

    def __init__(self, levels: list[int], embed_dim: int) -> None:
        super().__init__()
        self.vocab_size = math.prod(levels)
        self.library = FSQ(levels, dim=embed_dim)

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the rounded codes; nothing but the reconstruction teaches them: the loss is 0."""
        vectors, tokens = self.library(as_vectors(latents))
        codes = as_map(vectors, height=latents.shape[2])
        return Quantized(codes, codes, tokens.long(), latents.new_zeros(()))

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high, in float32 under autocast too."""
        with torch.autocast(tokens.device.type, enabled=False):
            return as_map(self.library.indices_to_codes(tokens), height=height)
