"""Lookup-free quantization: a code is the signs of a few numbers, kept in use by an entropy term.

Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (MAGVIT-v2), section 3.1, by the
library vector_quantize_pytorch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import LFQ

from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors

LEAST = {
    "vocab_size": 2,
    "embed_dim": 1,
    "beta": 0,
    "entropy_weight": 0,
    "diversity": 0,
    "inverse_temperature": 0,
}


@dataclass(frozen=True)
class Config:
    """Number of codes (2 to the number of signs), width of the map, and weights of the terms.

    The entropy term is that of a position's code less `diversity` times that of the batch's mean code, where a code's
    probability is the softmax of its squared distance, times minus `inverse_temperature`. Beta weighs the commitment term.
    """

    vocab_size: int
    embed_dim: int
    beta: float = 0.25
    entropy_weight: float = 0.1
    diversity: float = 1.0
    inverse_temperature: float = 100.0


def build(config: Config) -> "SignQuantizer":
    """Return the quantizer. Raises ConfigError for a vocabulary size that is not a power of two."""
    if config.vocab_size & (config.vocab_size - 1):
        raise ConfigError(
            f"tokenizer.quantizer.vocab_size is {config.vocab_size}; allowed with lfq: a power of two, 2 or more"
            " (tokenizer.vocab_size sets it)."
        )
    library = LFQ(
        dim=config.embed_dim,
        codebook_size=config.vocab_size,
        entropy_loss_weight=config.entropy_weight,
        commitment_loss_weight=config.beta,
        diversity_gamma=config.diversity,
    )
    return SignQuantizer(library, inverse_temperature=config.inverse_temperature)


class SignQuantizer(nn.Module):
    """A position's vector is projected to a few numbers, whose signs are projected back."""

    tokens_per_position = 1

    def __init__(self, library: LFQ, *, inverse_temperature: float) -> None:
        super().__init__()
        self.vocab_size: int = library.codebook_size
        self.library = library
        self.inverse_temperature = inverse_temperature
        self.train()

    def train(self, mode: bool = True) -> "SignQuantizer":
        """Return the quantizer in that mode.

        The library's part stays in training mode: out of it, it would leave out its loss, which is measured on test
        frames too. It has no state that moves.
        """
        super().train(mode)
        self.library.train()
        return self

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the codes of the signs; the loss is the weighted entropy and commitment terms."""
        vectors, tokens, loss = self.library(as_vectors(latents), inv_temperature=self.inverse_temperature)
        codes = as_map(vectors, height=latents.shape[2])
        return Quantized(codes, self.lookup(tokens, height=latents.shape[2]), tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high, in float32 under autocast too."""
        with torch.autocast(tokens.device.type, enabled=False):
            return as_map(self.library.indices_to_codes(tokens), height=height)
