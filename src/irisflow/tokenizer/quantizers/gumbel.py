"""Codes drawn from the encoder's own probabilities, with the gradient of the Gumbel-softmax.

Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax", section 2, as Ramesh et al. 2021, "Zero-Shot
Text-to-Image Generation", section 2.1 use it. Its own module: the library draws by distance and has no KL term.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantized, as_map, as_vectors

LEAST = {
    "vocab_size": 2,
    "embed_dim": 1,
    "kl_weight": 0,
    "temperature": 0,
    "least_temperature": 0,
    "cooling": 0,
}


@dataclass(frozen=True)
class Config:
    """Size of the codebook, weight of the divergence from uniform codes, and the temperature of the draws.

    The temperature starts at `temperature` and shrinks by the factor exp(-`cooling`) a batch, down to
    `least_temperature` (Jang et al., section 4); `cooling` 0 keeps it.
    """

    vocab_size: int
    embed_dim: int
    kl_weight: float = 0.0005
    temperature: float = 1.0
    least_temperature: float = 0.5
    cooling: float = 0.0001


def build(config: Config) -> "GumbelQuantizer":
    """Return the quantizer. Raises ConfigError for temperatures that are 0 or grow."""
    if not 0 < config.least_temperature <= config.temperature:
        raise ConfigError(
            f"tokenizer.quantizer.least_temperature is {config.least_temperature}; allowed: more than 0, up to"
            f" tokenizer.quantizer.temperature ({config.temperature})."
        )
    return GumbelQuantizer(config)


class GumbelQuantizer(nn.Module):
    """A linear layer gives each code's logit, a codebook its vector. Out of training the likeliest code is taken."""

    num_batches: Tensor
    tokens_per_position = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.kl_weight = config.kl_weight
        self.hottest, self.coldest, self.cooling = (
            config.temperature,
            config.least_temperature,
            config.cooling,
        )
        self.logits = nn.Linear(config.embed_dim, config.vocab_size)
        self.codebook = nn.Embedding(config.vocab_size, config.embed_dim)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def forward(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return drawn codes in training, else the likeliest; the loss is the weighted KL term."""
        logits = self.logits(as_vectors(latents))
        choice = self._drawn(logits) if self.training else F.one_hot(logits.argmax(-1), self.vocab_size)
        tokens = choice.argmax(dim=-1)
        codes = self.lookup(tokens, height=latents.shape[2])
        loss = self.kl_weight * divergence_from_uniform(logits)
        if not self.training:
            return Quantized(codes, codes, tokens, loss)
        drawn = as_map(choice @ self.codebook.weight, height=latents.shape[2])
        return Quantized(drawn, codes, tokens, loss)

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        return as_map(self.codebook(tokens), height=height)

    def temperature(self) -> Float[Tensor, ""]:
        """Return the temperature of the next batch."""
        return (self.hottest * torch.exp(-self.cooling * self.num_batches)).clamp(min=self.coldest)

    def _drawn(self, logits: Float[Tensor, "batch tokens codes"]) -> Float[Tensor, "batch tokens codes"]:
        """Return one-hot rows drawn by their logits, whose gradient is that of the softmax at the temperature."""
        noise = -torch.empty_like(logits).exponential_().log()
        soft = ((logits + noise) / self.temperature()).softmax(dim=-1)
        self.num_batches += 1
        hard = F.one_hot(soft.argmax(dim=-1), self.vocab_size)
        return hard + soft - soft.detach()


def divergence_from_uniform(logits: Float[Tensor, "batch tokens codes"]) -> Float[Tensor, ""]:
    """Return KL(q || uniform) of the codes' probabilities, in nats, the mean over positions."""
    log_probabilities = logits.log_softmax(dim=-1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    return math.log(logits.shape[-1]) - entropy.mean()
