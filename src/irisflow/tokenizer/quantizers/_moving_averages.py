"""A codebook of moving averages: what `vq_ema`, `vq_cosine` and `residual_vq` share.

Van den Oord et al. 2017, "Neural Discrete Representation Learning" (VQ-VAE), appendix A.1. The library
vector_quantize_pytorch finds the nearest code, averages, and moves codes that nothing chooses.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors


@runtime_checkable
class Averaging(Protocol):
    """The settings of such a codebook; a variant's `Config` says what they are."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def embed_dim(self) -> int: ...

    @property
    def beta(self) -> float: ...

    @property
    def decay(self) -> float: ...

    @property
    def revive_below(self) -> float: ...


def codebook(config: Averaging, *, is_cosine: bool = False) -> "EmaQuantizer":
    """Return a codebook. Raises ConfigError for a decay with which no average would move."""
    if not 0 <= config.decay < 1:
        raise ConfigError(f"tokenizer.quantizer.decay is {config.decay}; allowed: 0 or more and less than 1.")
    return EmaQuantizer(
        config.vocab_size,
        config.embed_dim,
        beta=config.beta,
        decay=config.decay,
        revive_below=config.revive_below,
        is_cosine=is_cosine,
    )


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
        return as_map(F.embedding(tokens, self.library.codebook), height=height)

    @torch.no_grad()
    def _nearest(
        self, latents: Float[Tensor, "batch embed height width"]
    ) -> tuple[Int64[Tensor, "batch tokens"], Float[Tensor, "batch embed height width"]]:
        vectors = as_vectors(latents)
        _, tokens, _ = self.library(vectors, freeze_codebook=True)
        codes = self.lookup(tokens, height=latents.shape[2])
        if self.training:
            self.library.update_indices(vectors, tokens)
        return tokens, codes
