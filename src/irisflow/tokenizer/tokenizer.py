"""The tokenizer: images to discrete tokens and back. IRIS, section 2.1. It never sees actions."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int64
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow import schema, variants
from irisflow.errors import ConfigError
from irisflow.records import Loss
from irisflow.tokenizer.nets import Decoder, Encoder, laid_out
from irisflow.tokenizer.quantizers.base import Quantized, Quantizer
from irisflow.tokenizer.reconstruction.base import NeedsFiles, Pictures


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
    if quantizer.tokens_per_position != settings.tokens_per_position:
        raise ConfigError(
            f"tokenizer.tokens_per_position: {settings.tokens_per_position} was given, but the quantizer"
            f" {settings.quantizer['name']!r} makes {quantizer.tokens_per_position}. Allowed: that many, or"
            " quantizer=residual_vq, which makes as many as are wanted."
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
    DECIDE_TOKENS = ("encoder", "pre_quant_conv", "quantizer")  # the parts that a frame's tokens depend on

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
        self.tokens_per_frame = grid * grid * quantizer.tokens_per_position
        self.needs_previous = any(getattr(term, "needs_previous", False) for term in reconstruction.values())
        self.vocab_size = quantizer.vocab_size
        self.has_fixed_tokens = False

    def load_losses(self) -> None:
        """Load what reconstruction terms read from elsewhere, so that a missing file stops a training before it begins."""
        for term in self.reconstruction.values():
            if isinstance(term, NeedsFiles):
                term.load()

    def fix_tokens(self) -> None:
        """Keep a frame's tokens and their codes as they are from now on, whatever else is trained.

        Nothing that they depend on takes a gradient, and it stays in eval mode: no moving average moves, no code is revived.
        """
        self.has_fixed_tokens = True
        for part in self._deciding_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Tokenizer":
        """Return the tokenizer in training or eval mode; parts that are fixed stay in eval mode."""
        super().train(mode)
        if self.has_fixed_tokens:
            for part in self._deciding_parts():
                part.eval()
        return self

    def tokens_version(self) -> int:
        """Return a number that changes with whatever changes tokens: the writes to the tensors that these depend on."""
        return _num_writes(self._deciding_parts())

    def pictures_version(self) -> int:
        """Return a number that changes with whatever changes the pictures that frames are reconstructed to."""
        return _num_writes([*self._deciding_parts(), self.post_quant_conv, self.decoder])

    def forward(
        self, observations: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Quantized, Float[Tensor, "batch 3 height width"]]:
        """Return the codes of images in [0, 1], and reconstructions meant for [-1, 1], not clamped."""
        return self._pass(2 * observations - 1)

    def loss(
        self,
        observations: Float[Tensor, "*batch 3 height width"],
        previous: Float[Tensor, "*batch 3 height width"] | None = None,
    ) -> Loss:
        """Return the term `commitment` (the quantizer's loss) and one term per reconstruction distance.

        `previous` is what was seen one step before, wanted where `needs_previous`: see `Pictures`.
        """
        images = self._laid_out(2 * observations.reshape(-1, *observations.shape[-3:]) - 1)
        quantized, reconstructions = self._pass(images)
        before = None if previous is None else self._laid_out(2 * previous.reshape_as(images) - 1)
        pictures = Pictures(images, reconstructions.float(), before)
        terms = {name: term(pictures) for name, term in self._terms(is_adversarial=False)}
        metrics: dict[str, Tensor] = {}
        others = sum(terms.values(), images.new_zeros(()))
        for _, term in self._terms(is_adversarial=True):
            loss = term(pictures, others=others, last_layer=self.decoder.conv_out.weight)
            terms |= loss.terms
            metrics |= loss.metrics
        return Loss({"commitment": quantized.loss, **terms}, metrics)

    @torch.no_grad()
    def encode(self, observations: Float[Tensor, "*batch 3 height width"]) -> Int64[Tensor, "*batch tokens"]:
        """Return the tokens of images in [0, 1]: in float32, so that a frame has the same ones everywhere."""
        images = observations.reshape(-1, *observations.shape[-3:])
        with _in_float32(images):
            tokens: Tensor = self.quantizer(self.latents(images)).tokens
        return tokens.reshape(*observations.shape[:-3], self.tokens_per_frame)

    @torch.no_grad()
    def decode(self, tokens: Int64[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch 3 height width"]:
        """Return images in [0, 1]."""
        images = self.draw(self.embed(tokens.reshape(-1, self.tokens_per_frame)))
        return images.reshape(*tokens.shape[:-1], *images.shape[-3:])

    @torch.no_grad()
    def draw(self, codes: Float[Tensor, "batch embed grid grid"]) -> Float[Tensor, "batch 3 height width"]:
        """Return images in [0, 1] of maps of codes."""
        return (self._images(codes).float() + 1).div(2).clamp(0, 1)

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
        return self._latents(2 * observations - 1)

    def _pass(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Quantized, Float[Tensor, "batch 3 height width"]]:
        latents = self._latents(images)
        with _in_float32(images):
            quantized: Quantized = self.quantizer(latents)
        return quantized, self._images(quantized.latents)

    def _latents(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed grid grid"]:
        latents: Tensor = self.pre_quant_conv(self.encoder(images))
        return latents.float()

    def _laid_out(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return images in the layout of reconstructions: arithmetic on two layouts is slow."""
        return laid_out(images, self.encoder.layout)

    def _deciding_parts(self) -> list[nn.Module]:
        return [self.get_submodule(name) for name in self.DECIDE_TOKENS]

    def _terms(self, *, is_adversarial: bool) -> list[tuple[str, nn.Module]]:
        """Return the reconstruction terms of one kind, by name."""
        return [
            (name, term)
            for name, term in self.reconstruction.items()
            if getattr(term, "is_adversarial", False) == is_adversarial
        ]

    def _images(
        self, latents: Float[Tensor, "batch embed grid grid"]
    ) -> Float[Tensor, "batch 3 height width"]:
        images: Tensor = self.decoder(self.post_quant_conv(latents))
        return images


def _num_writes(parts: Iterable[nn.Module]) -> int:
    return sum(tensor._version for part in parts for tensor in part.state_dict().values())


def _in_float32(like: Tensor) -> torch.autocast:
    """Return a context without autocast: latents are compared with codes in float32, whatever convolutions compute in."""
    return torch.autocast(like.device.type, enabled=False)
