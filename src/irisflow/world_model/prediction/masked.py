"""A frame in a few passes over its tokens, the most certain ones first, as MaskGIT draws pictures.

Chang et al. 2022, "MaskGIT: Masked Generative Image Transformer", sections 3.2 (training), 3.3 (decoding, cosine schedule)
and its Gumbel noise on confidences; as the prior of a world model: GIT-STORM, Meo et al. 2024, "Masked Generative Priors
Improve World Models Sequence Modelling Capabilities", arXiv 2410.07836. As there, the backbone's output at the action is
concatenated with each token's embedding, and logits are products with those embeddings.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.errors import ConfigError
from irisflow.linear import Linear
from irisflow.randomness import Source, sample_categorical, uniform
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.prediction.base import Blocks, Pass, mean_cross_entropy
from irisflow.world_model.weights import initialise

LEAST = {"num_layers": 1, "num_heads": 1, "dropout": 0, "num_passes": 1, "choice_temperature": 0}

Tokens = Int64[Tensor, "frames tokens"]
Condition = Float[Tensor, "frames embed"]


@dataclass(frozen=True)
class Config:
    """Sizes of the small Transformer; passes to a frame; how much chance first decides which tokens are kept."""

    num_layers: int
    num_heads: int
    dropout: float
    num_passes: int = 4
    choice_temperature: float = 4.5


def build(config: Config, *, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> "Masked":
    """Return the prediction. Raises ConfigError for settings that do not fit together."""
    where = "world_model.prediction"
    if embed_dim % config.num_heads:
        raise ConfigError(
            f"{where}.num_heads: {config.num_heads} heads do not divide world_model.embed_dim {embed_dim}."
            " Allowed: a divisor of it."
        )
    if config.num_passes > tokens_per_frame:
        raise ConfigError(
            f"{where}.num_passes is {config.num_passes}; allowed: 1 to {tokens_per_frame}, the tokens of a frame: each"
            " pass keeps one or more."
        )
    if config.dropout > 1:
        raise ConfigError(f"{where}.dropout is {config.dropout}; allowed: 0 to 1.")
    return Masked(config, embed_dim, vocab_size, tokens_per_frame)


def masked_after(num_tokens: int, num_passes: int) -> list[int]:
    """Return how many tokens are still masked after each pass.

    The cosine of the share of passes done, times the tokens, rounded up; but each pass keeps one token or more.
    """
    counts, left = [], num_tokens
    for done in range(1, num_passes):
        left = min(left - 1, math.ceil(math.cos(math.pi / 2 * done / num_passes) * num_tokens))
        counts.append(left)
    return [*counts, 0]


class Masked(nn.Module):
    """A Transformer without a time direction over the K positions of one frame. It sees the past by one vector.

    Embeddings start as elsewhere in the world model, all else as PyTorch has it: from N(0, 0.02) so small a Transformer
    needs several times as many updates to relate tokens to each other.
    """

    def __init__(self, config: Config, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> None:
        super().__init__()
        self.pending = tokens_per_frame
        self.vocab_size = vocab_size  # also the index of the mask token
        self.choice_temperature = config.choice_temperature
        self.masked_after = masked_after(tokens_per_frame, config.num_passes)
        self.tokens = nn.Embedding(vocab_size + 1, embed_dim)
        self.positions = nn.Embedding(tokens_per_frame, embed_dim)
        self.norm = nn.LayerNorm(
            embed_dim
        )  # tokens count as much as the backbone's output, whose size is about 1
        self.mixer = Linear(2 * embed_dim, embed_dim)
        self.layers = nn.ModuleList(_layer(config, embed_dim) for _ in range(config.num_layers))
        self.readout = nn.Sequential(
            nn.LayerNorm(embed_dim), Linear(embed_dim, embed_dim), nn.GELU(), nn.LayerNorm(embed_dim)
        )
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.tokens.apply(initialise)
        self.positions.apply(initialise)

    def has_decay(self, name: str) -> bool:
        """Return whether a parameter decays that no Linear, Embedding or norm owns: the attention's weights do."""
        return name.endswith("in_proj_weight")

    def read(self, blocks: Blocks, *, backbone: Backbone) -> Pass:
        """Return the backbone's pass over the blocks as one sequence."""
        outputs, _ = backbone(blocks.flatten(1, 2))
        return Pass(outputs.view_as(blocks))

    def forward(
        self, tokens: Tokens, is_masked: Bool[Tensor, "frames tokens"], condition: Condition
    ) -> Float[Tensor, "frames tokens vocab"]:
        """Return the logits at all positions, given the tokens that are not masked and the output at the action."""
        shown = tokens.masked_fill(is_masked, self.vocab_size)
        embedded = self.norm(self.tokens(shown) + self.positions.weight)
        x = self.mixer(torch.cat([embedded, condition[:, None].expand_as(embedded)], dim=-1))
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.readout(x), self.tokens.weight[: self.vocab_size], self.bias)

    def loss(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Return the mean over the masked tokens of all frames but the first; 0 where there is none.

        Which are masked is drawn anew in training, from torch's global generator. In eval mode it is the same each
        time, so that measuring a loss moves no random stream.
        """
        later = tokens[:, 1:].flatten(0, 1)
        is_masked = self._drawn_masks(later)
        logits = self(later, is_masked, seen.at_actions[:, :-1].flatten(0, 1))
        return mean_cross_entropy(logits, later, counted=is_masked & mask[:, 1:].reshape(-1, 1))

    def likeliest(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"]
    ) -> Int64[Tensor, "batch later tokens"]:
        """Return what greedy decoding gives after the real frames before, in as many passes as `sample` makes."""
        found = self.decoded(seen.at_actions[:, :-1].flatten(0, 1), generator=None)
        return found.view_as(tokens[:, 1:])

    def sample(
        self,
        output: Float[Tensor, "batch embed"],
        memory: Memory,
        *,
        backbone: Backbone,
        embedding: Embedding,
        generator: Source,
        greedy: bool = False,
    ) -> tuple[Int64[Tensor, "batch tokens"], Memory]:
        """Return the next frame and the same memory: the backbone makes no pass.

        `greedy` takes the likeliest tokens and keeps the likeliest of them.
        """
        del backbone, embedding
        return self.decoded(output, generator=None if greedy else generator), memory

    def _drawn_masks(self, tokens: Tokens) -> Bool[Tensor, "frames tokens"]:
        """Return masks: of each frame the share cos(pi/2 u), u uniform, rounded up to whole tokens, at random places."""
        device, (num_frames, num_tokens) = tokens.device, tokens.shape
        generator = None if self.training else torch.Generator(device).manual_seed(0)
        ratios = torch.rand(num_frames, 1, device=device, generator=generator).mul(math.pi / 2).cos()
        order = torch.rand(num_frames, num_tokens, device=device, generator=generator).argsort(dim=1)
        return order < (ratios * num_tokens).ceil().clamp(min=1)

    def decoded(self, condition: Condition, *, generator: Source | None) -> Tokens:
        """Return frames after all passes; without a generator nothing is drawn."""
        shape, num_passes = (len(condition), self.pending), len(self.masked_after)
        tokens = torch.zeros(shape, dtype=torch.long, device=condition.device)
        is_masked = torch.ones(shape, dtype=torch.bool, device=condition.device)
        for done, num_masked in enumerate(self.masked_after, start=1):
            logits = self(tokens, is_masked, condition).float()
            found = _drawn(logits, generator)
            tokens = torch.where(is_masked, found, tokens)
            confidence = logits.log_softmax(dim=-1).gather(-1, found[..., None])[..., 0]
            if generator is not None:
                temperature = self.choice_temperature * (1 - done / num_passes)
                confidence = confidence + temperature * _gumbel_like(confidence, generator)
            is_masked = _least(confidence.masked_fill(~is_masked, math.inf), num_masked)
        return tokens


def _layer(config: Config, embed_dim: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        embed_dim,
        config.num_heads,
        dim_feedforward=4 * embed_dim,
        dropout=config.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )


def _drawn(logits: Float[Tensor, "frames tokens vocab"], generator: Source | None) -> Tokens:
    return logits.argmax(dim=-1) if generator is None else sample_categorical(logits, generator=generator)


def _gumbel_like(values: Float[Tensor, "frames tokens"], generator: Source) -> Tensor:
    uniform_numbers = uniform(values.shape, generator, device=values.device)
    return -(-uniform_numbers.log()).log().to(values.dtype)


def _least(values: Float[Tensor, "frames tokens"], count: int) -> Bool[Tensor, "frames tokens"]:
    """Return where the `count` least values of each frame are."""
    return values.argsort(dim=1, stable=True).argsort(dim=1) < count
