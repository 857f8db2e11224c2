"""The tokenizer: images to discrete tokens and back. IRIS, section 2.1. It never sees actions."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow import schema, variants
from irisflow.errors import ConfigError
from irisflow.records import Loss
from irisflow.tokenizer.nets import Decoder, Encoder
from irisflow.tokenizer.quantizers.base import Quantized, Quantizer


def build_tokenizer(settings: schema.Tokenizer | DictConfig) -> "Tokenizer":
    """Return an untrained tokenizer. A reconstruction term of weight 0 is not built.

    Raises ConfigError for settings that do not fit together.
    """
    quantizer = variants.build("quantizer", settings.quantizer)
    if quantizer.vocab_size != settings.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: {settings.vocab_size} was given, but the quantizer"
            f" {settings.quantizer['name']!r} has {quantizer.vocab_size} codes. Set both to the same number."
        )
    terms = {
        str(name): variants.build("reconstruction", {"name": name, **term})
        for name, term in settings.reconstruction.items()
        if term.get("weight") != 0
    }
    return Tokenizer(
        Encoder(settings.encoder.config),
        Decoder(settings.decoder.config),
        quantizer,
        terms,
        channels=(settings.encoder.config.z_channels, settings.embed_dim, settings.decoder.config.z_channels),
        grid=settings.encoder.config.resolution >> (len(settings.encoder.config.ch_mult) - 1),
    )


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder. A frame is a grid of `grid` x `grid` tokens, row by row."""

    quantizer: Quantizer

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        quantizer: Quantizer,
        reconstruction: Mapping[str, nn.Module],
        *,
        channels: tuple[int, int, int],
        grid: int,
    ) -> None:
        super().__init__()
        encoded, embedded, decoded = channels
        self.encoder = encoder
        self.pre_quant_conv = nn.Conv2d(encoded, embedded, 1)
        self.quantizer = quantizer
        self.post_quant_conv = nn.Conv2d(embedded, decoded, 1)
        self.decoder = decoder
        self.reconstruction = nn.ModuleDict(reconstruction)
        self.grid = grid
        self.tokens_per_frame = grid * grid
        self.vocab_size = quantizer.vocab_size

    def forward(
        self, observations: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Quantized, Float[Tensor, "batch 3 height width"]]:
        """Return the codes of images in [0, 1], and reconstructions meant for [-1, 1], not clamped."""
        quantized: Quantized = self.quantizer(self.latents(observations))
        return quantized, self._images(quantized.latents)

    def loss(self, observations: Float[Tensor, "*batch 3 height width"]) -> Loss:
        """Return the term `commitment` (the quantizer's loss) and one term per reconstruction distance."""
        images = observations.reshape(-1, *observations.shape[-3:])
        quantized, reconstructions = self(images)
        terms = {name: term(2 * images - 1, reconstructions) for name, term in self.reconstruction.items()}
        return Loss({"commitment": quantized.loss, **terms})

    @torch.no_grad()
    def encode(self, observations: Float[Tensor, "*batch 3 height width"]) -> Int64[Tensor, "*batch tokens"]:
        """Return the tokens of images in [0, 1]."""
        images = observations.reshape(-1, *observations.shape[-3:])
        tokens: Tensor = self.quantizer(self.latents(images)).tokens
        return tokens.reshape(*observations.shape[:-3], self.tokens_per_frame)

    @torch.no_grad()
    def decode(self, tokens: Int64[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch 3 height width"]:
        """Return images in [0, 1]."""
        codes = self.embed(tokens.reshape(-1, self.tokens_per_frame))
        images = (self._images(codes) + 1).div(2).clamp(0, 1)
        return images.reshape(*tokens.shape[:-1], *images.shape[-3:])

    def reconstruct(
        self, observations: Float[Tensor, "*batch 3 height width"]
    ) -> Float[Tensor, "*batch 3 height width"]:
        """Return images in [0, 1] as the policy sees them: encoded, decoded, clamped. No gradient."""
        return self.decode(self.encode(observations))

    def embed(self, tokens: Int64[Tensor, "batch tokens"]) -> Float[Tensor, "batch embed grid grid"]:
        """Return the map of codes that tokens stand for."""
        return self.quantizer.lookup(tokens, height=self.grid)

    def latents(
        self, observations: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed grid grid"]:
        """Return the continuous latents of images in [0, 1], before quantization."""
        latents: Tensor = self.pre_quant_conv(self.encoder(2 * observations - 1))
        return latents

    def _images(
        self, latents: Float[Tensor, "batch embed grid grid"]
    ) -> Float[Tensor, "batch 3 height width"]:
        images: Tensor = self.decoder(self.post_quant_conv(latents))
        return images
