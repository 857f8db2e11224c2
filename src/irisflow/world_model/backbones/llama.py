"""A causal Transformer with rotary positions, RMS norms, gated perceptrons and grouped-query attention.

Llama 2 (Touvron et al. 2023, section 2.2). Its parts: RoPE (Su et al. 2021, section 3.2), RMSNorm (Zhang & Sennrich 2019,
equation 4), SwiGLU (Shazeer 2020, equation 6), grouped-query attention (Ainslie et al. 2023, section 2.2). No Linear has a
bias.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.attention import attention
from irisflow.dropout import Dropout
from irisflow.errors import ConfigError
from irisflow.linear import Linear
from irisflow.world_model.backbones._settings import check_causal, check_heads, check_room, hidden_dim
from irisflow.world_model.backbones.base import (
    Branches,
    Sequence,
    branched,
    branched_positions,
    branched_visibility,
    split_branches,
)
from irisflow.world_model.weights import initialise

NORM_EPSILON = 1e-5  # as in Llama 2 and 3
LEAST = {
    "num_layers": 1,
    "num_heads": 1,
    "num_kv_heads": 1,
    "embed_dim": 1,
    "hidden_multiple": 0,
    "rope_theta": 1,
    "embed_pdrop": 0,
    "resid_pdrop": 0,
    "attn_pdrop": 0,
    "max_tokens": 1,
}


@dataclass(frozen=True)
class Config:
    """Sizes, the base of the rotary wavelengths, dropout probabilities, tokens of the longest sequence.

    The perceptron is `hidden_multiple` times as wide as the model, rounded to a multiple of 8.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    embed_dim: int
    hidden_multiple: float
    rope_theta: float
    embed_pdrop: float
    resid_pdrop: float
    attn_pdrop: float
    max_tokens: int
    attention: str = "causal"


def build(config: Config) -> "Llama":
    """Return the backbone. Raises ConfigError for settings that do not fit together."""
    check_causal(config.attention, "llama")
    check_heads(config.num_heads, config.embed_dim)
    if config.num_heads % config.num_kv_heads:
        raise ConfigError(
            f"world_model.backbone.num_kv_heads: {config.num_kv_heads} does not divide"
            f" world_model.num_heads, {config.num_heads}. Allowed: a divisor of it."
        )
    if config.embed_dim // config.num_heads % 2:
        raise ConfigError(
            f"world_model.embed_dim: {config.embed_dim} gives heads of width"
            f" {config.embed_dim // config.num_heads}. Allowed: an even width, whose halves are rotated."
        )
    return Llama(config)


@dataclass(frozen=True)
class KeysValues:
    """The cache: per layer keys and values (batch, heads, tokens, head width) whose first `length` tokens count.

    A first pass leaves views of what it computed anyway; the first continuation copies them into tensors of
    full length, which later continuations fill in place. So a second continuation overwrites the first.
    """

    layers: list[tuple[Tensor, Tensor]]
    length: int


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of the angles by which the pairs of a head's members turn at each position."""

    cosines: Float[Tensor, "tokens half"]
    sines: Float[Tensor, "tokens half"]

    def __call__(self, heads: Float[Tensor, "batch heads tokens width"]) -> Tensor:
        """Return the heads with member i and member i + width / 2 rotated as a pair."""
        first, second = heads.chunk(2, dim=-1)
        turned = (first * self.cosines - second * self.sines, second * self.cosines + first * self.sines)
        return torch.cat(turned, dim=-1).type_as(heads)


def angles(
    num_positions: int, head_dim: int, *, theta: float
) -> Float[Tensor, "{num_positions} {head_dim//2}"]:
    """Return position x theta^(-2 i / head_dim) for each pair i. Su et al. 2021, section 3.2.2."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return torch.outer(torch.arange(num_positions, dtype=torch.float32), frequencies)


class GroupedAttention(nn.Module):
    """Attention in which several query heads share a key and value head; all three come from one Linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.num_kv_heads = config.num_kv_heads
        self.head_dim = config.embed_dim // config.num_heads
        self.pdrop = config.attn_pdrop
        num_all = config.num_heads + 2 * config.num_kv_heads
        self.qkv = Linear(config.embed_dim, num_all * self.head_dim, bias=False)
        self.out = Linear(config.embed_dim, config.embed_dim, bias=False)

    def forward(
        self,
        x: Sequence,
        rotation: Rotation,
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None,
        start: int,
    ) -> tuple[Sequence, tuple[Tensor, Tensor]]:
        """Return the mixed values, and this layer's keys and values of everything seen."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        turned = rotation(heads[:, : -self.num_kv_heads])
        query, keys = turned[:, : self.num_heads], turned[:, self.num_heads :]
        values = heads[:, -self.num_kv_heads :]
        if cache is not None:
            keys, values = (
                _written(kept, new, start) for kept, new in zip(cache, (keys, values), strict=True)
            )
        pdrop = self.pdrop if self.training else 0.0
        attended = shared_attention(query, keys, values, mask=mask, pdrop=pdrop)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed, (keys, values) if cache is None else cache


def shared_attention(
    query: Float[Tensor, "batch heads queries width"],
    keys: Float[Tensor, "batch shared keys width"],
    values: Float[Tensor, "batch shared keys width"],
    *,
    mask: Tensor | None,
    pdrop: float,
) -> Float[Tensor, "batch heads queries width"]:
    """Return the attention of heads of which each `heads / shared` neighbours have one key and value head.

    For a single token these stand as queries side by side, so that the cache is not copied.
    """
    num_sharing = query.shape[1] // keys.shape[1]
    if query.shape[2] == 1:
        side_by_side = query.reshape(len(query), -1, num_sharing, query.shape[3])
        attended = attention(side_by_side, keys, values, pdrop=pdrop)
        return attended.reshape(query.shape)
    keys, values = (
        heads[:, :, None].expand(-1, -1, num_sharing, -1, -1).flatten(1, 2) for heads in (keys, values)
    )
    return attention(query, keys, values, mask=mask, is_causal=mask is None, pdrop=pdrop)


@torch.no_grad()
def _written(kept: Tensor, new: Tensor, start: int) -> Tensor:
    """Return the part of a cache that counts after the new tokens are written to it."""
    stop = start + new.shape[2]
    kept[:, :, start:stop] = new
    return kept[:, :, :stop]


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)); gate and up are one Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = Linear(width, 2 * hidden, bias=False)
        self.down = Linear(hidden, width, bias=False)

    def forward(self, x: Sequence) -> Sequence:
        """Return the perceptron's output at each position."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(F.silu(gate) * up)
        return output


class Block(nn.Module):
    """Attention, then the perceptron, each normalised first and added to its input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm1 = nn.RMSNorm(width, eps=NORM_EPSILON)
        self.attention = GroupedAttention(config)
        self.norm2 = nn.RMSNorm(width, eps=NORM_EPSILON)
        self.mlp = SwiGLU(width, hidden_dim(width, config.hidden_multiple))
        self.dropout = Dropout(config.resid_pdrop)

    def forward(
        self,
        x: Sequence,
        rotation: Rotation,
        mask: Tensor | None,
        cache: tuple[Tensor, Tensor] | None,
        start: int,
    ) -> tuple[Sequence, tuple[Tensor, Tensor]]:
        """Return the block's output, and the keys and values of everything seen."""
        mixed, keys_values = self.attention(self.norm1(x), rotation, mask, cache, start)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.norm2(x))), keys_values


class Llama(nn.Module):
    """The backbone. It has no learned positions; the window is the length of the cache."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.window = config.max_tokens
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.embed_dim, eps=NORM_EPSILON)
        table = angles(config.max_tokens, config.embed_dim // config.num_heads, theta=config.rope_theta)
        self.register_buffer("cosines", table.cos(), persistent=False)
        self.register_buffer("sines", table.sin(), persistent=False)
        self.apply(initialise)

    def forward(self, embeddings: Sequence, memory: KeysValues | None = None) -> tuple[Sequence, KeysValues]:
        """Return the outputs at all positions and the cache, see `Backbone`."""
        start = 0 if memory is None else memory.length
        stop = start + embeddings.shape[1]
        check_room(stop, self.window)
        caches = [None] * len(self.blocks) if memory is None else self._writable(memory)
        rotation = Rotation(self.cosines[start:stop], self.sines[start:stop])
        mask = _mask(start, stop, embeddings.device)
        x = self.dropout(embeddings)
        layers = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, keys_values = block(x, rotation, mask, cache, start)
            layers.append(keys_values)
        return self.norm(x), KeysValues(layers, stop)

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches in one pass, see `Backbone`."""
        length, num_queries, device = embeddings.shape[1], len(queries), embeddings.device
        check_room(max(length, (length - 1) // every * every + num_queries), self.window)
        positions = branched_positions(length, num_queries, every=every).to(device)
        mask = branched_visibility(length, num_queries, every=every).to(device)
        rotation = Rotation(self.cosines[positions], self.sines[positions])
        x = self.dropout(branched(embeddings, queries, every=every))
        for block in self.blocks:
            x, _ = block(x, rotation, mask, None, 0)
        return split_branches(self.norm(x), length, num_queries)

    def _writable(self, memory: KeysValues) -> list[tuple[Tensor, Tensor]]:
        """Return caches of full length."""
        missing = self.window - memory.layers[0][0].shape[-2]
        if missing == 0:
            return memory.layers
        room = (0, 0, 0, missing)
        return [(F.pad(k.detach(), room), F.pad(v.detach(), room)) for k, v in memory.layers]


def _mask(start: int, stop: int, device: torch.device) -> Tensor | None:
    """Return the visible pairs, or None where plain causality (or a single token) says the same."""
    if start == 0 or stop - start == 1:
        return None
    return torch.ones(stop - start, stop, dtype=torch.bool, device=device).tril(diagonal=start)
