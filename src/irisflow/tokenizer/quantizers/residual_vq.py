"""Residual vector quantization: each codebook takes what the codes before it left over.

Zeghidour et al. 2021, "SoundStream", section III-C and algorithm 1. A position of the map has one token per codebook.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.tokenizer.quantizers._moving_averages import EmaQuantizer, codebook
from irisflow.tokenizer.quantizers.base import Quantized

LEAST = {"vocab_size": 2, "embed_dim": 1, "num_quantizers": 1, "beta": 0, "decay": 0, "revive_below": 0}


@dataclass(frozen=True)
class Config:
    """Number of codebooks, size of each, weight of the commitment terms, pace of the averages, revival.

    `decay` is the weight of the past in an average. A code that, by its moving average, fewer latents than
    `revive_below` choose in a batch moves onto a random remainder; 0: never.
    """

    vocab_size: int
    embed_dim: int
    num_quantizers: int
    beta: float
    decay: float = 0.99
    revive_below: float = 0.1


def build(config: Config) -> "ResidualQuantizer":
    """Return the quantizer. Raises ConfigError for a decay that is not a share."""
    return ResidualQuantizer([codebook(config) for _ in range(config.num_quantizers)])


class ResidualQuantizer(nn.Module):
    """Codebooks one after another; the code of a position is the sum of theirs. Its tokens are neighbours, coarse first."""

    def __init__(self, layers: Sequence[EmaQuantizer]) -> None:
        super().__init__()
        self.layers = cast(Sequence[EmaQuantizer], nn.ModuleList(layers))
        self.tokens_per_position = len(layers)
        self.vocab_size = layers[0].vocab_size

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the sums of the nearest codes; the loss is the sum of the codebooks' own."""
        parts: list[Quantized] = []
        remainder = latents
        for layer in self.layers:
            parts.append(layer(remainder))
            remainder = remainder - parts[-1].codes
        codes = torch.stack([part.codes for part in parts]).sum(dim=0)
        tokens = torch.stack([part.tokens for part in parts], dim=-1).flatten(1)
        loss = torch.stack([part.loss for part in parts]).sum()
        return Quantized(latents + (codes - latents).detach(), codes, tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        by_layer = rearrange(tokens, "b (p n) -> n b p", n=self.tokens_per_position)
        codes = [layer.lookup(t, height=height) for layer, t in zip(self.layers, by_layer, strict=True)]
        return torch.stack(codes).sum(dim=0)
