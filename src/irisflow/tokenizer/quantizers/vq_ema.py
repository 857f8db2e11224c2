"""Vector quantization whose codes are moving averages of the latents that chose them. VQ-VAE, appendix A.1.

Van den Oord et al. 2017, "Neural Discrete Representation Learning". The library vector_quantize_pytorch finds the nearest
code, averages, and moves codes that nothing chooses.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantized

LEAST = {"vocab_size": 2, "embed_dim": 1, "beta": 0, "decay": 0, "revive_below": 0}


@dataclass(frozen=True)
class Config:
    """Size of the codebook, weight of the commitment term, pace of the averages, and what keeps codes in use.

    `decay` is the weight of the past in an average. A code that, by its moving average, fewer latents than
    `revive_below` choose in a batch moves onto a random latent; 0: never.
    """

    vocab_size: int
    embed_dim: int
    beta: float
    decay: float = 0.99
    revive_below: float = 0.0


def build(config: Config) -> "EmaQuantizer":
    """Return the quantizer. Raises ConfigError for a decay that is not a share."""
    check_decay(config.decay)
    return EmaQuantizer(
        config.vocab_size,
        config.embed_dim,
        beta=config.beta,
        decay=config.decay,
        revive_below=config.revive_below,
    )


def check_decay(decay: float) -> None:
    """Raise ConfigError for a decay with which no average would move."""
    if not 0 <= decay < 1:
        raise ConfigError(f"tokenizer.quantizer.decay is {decay}; allowed: 0 or more and less than 1.")


class EmaQuantizer(nn.Module):
    """A codebook that no gradient reaches; a latent vector becomes the nearest code, by distance or by angle.

    By angle, latents and codes have length 1. The codebook, its averages and its counts are buffers. What a batch does
    to the codebook shows from the next batch on.
    """

    tokens_per_position = 1

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        beta: float,
        decay: float,
        revive_below: float,
        is_cosine: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size, self.beta, self.is_cosine = vocab_size, beta, is_cosine
        self.library = VectorQuantize(
            embed_dim,
            vocab_size,
            decay=decay,
            use_cosine_sim=is_cosine,
            threshold_ema_dead_code=revive_below,
            rotation_trick=False,
            commitment_weight=0.0,
        )

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the nearest codes; the loss is beta times the commitment term. In training the codebook moves on."""
        latents = F.normalize(latents, dim=1, eps=1e-6) if self.is_cosine else latents
        tokens, codes = self._nearest(latents)
        loss = self.beta * F.mse_loss(latents, codes)
        return Quantized(latents + (codes - latents).detach(), codes, tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        codes: Tensor = rearrange(
            F.embedding(tokens, self.library.codebook), "b (h w) e -> b e h w", h=height
        )
        return codes.contiguous()

    @torch.no_grad()
    def _nearest(
        self, latents: Float[Tensor, "batch embed height width"]
    ) -> tuple[Int64[Tensor, "batch tokens"], Float[Tensor, "batch embed height width"]]:
        vectors = rearrange(latents, "b e h w -> b (h w) e").contiguous()
        _, tokens, _ = self.library(vectors, freeze_codebook=True)
        codes = self.lookup(tokens, height=latents.shape[2])
        if self.training:
            self.library.update_indices(vectors, tokens)
        return tokens, codes
