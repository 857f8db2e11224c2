"""A Transformer with segment-level recurrence and relative positions. Dai et al. 2019, section 3."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.attention import attention
from irisflow.dropout import Dropout
from irisflow.errors import ConfigError
from irisflow.linear import Linear
from irisflow.world_model.backbones._settings import check_causal, check_heads, hidden_dim
from irisflow.world_model.backbones.base import (
    Branches,
    Sequence,
    belonging,
    branched,
    branched_positions,
    split_branches,
)
from irisflow.world_model.weights import initialise

LEAST = {
    "num_layers": 1,
    "num_heads": 1,
    "embed_dim": 1,
    "hidden_multiple": 0,
    "memory_tokens": 1,
    "embed_pdrop": 0,
    "resid_pdrop": 0,
    "attn_pdrop": 0,
}


@dataclass(frozen=True)
class Config:
    """Sizes, how many tokens before itself a token sees, dropout probabilities.

    The perceptron is `hidden_multiple` times as wide as the model, rounded to a multiple of 8.
    """

    num_layers: int
    num_heads: int
    embed_dim: int
    hidden_multiple: float
    memory_tokens: int
    embed_pdrop: float
    resid_pdrop: float
    attn_pdrop: float
    attention: str = "causal"


def build(config: Config) -> "TransformerXL":
    """Return the backbone. Raises ConfigError for settings that do not fit together."""
    check_causal(config.attention, "transformer_xl")
    check_heads(config.num_heads, config.embed_dim)
    if config.embed_dim % 2:
        raise ConfigError(
            f"world_model.embed_dim: {config.embed_dim} is odd. Allowed: an even width, half sines and half cosines."
        )
    return TransformerXL(config)


@dataclass(frozen=True)
class LayerMemory:
    """A layer's keys and values, (2, batch, heads, slots, head width), and its W_kR R, (heads, head width, distances).

    The paper keeps the hidden states that keys and values are projected from, and projects them anew in each pass. As no
    update comes in between here, that gives the same numbers; kept so, a token costs one projection instead of hundreds.
    """

    keys_values: Tensor
    by_distance: Tensor


@dataclass(frozen=True)
class Recent:
    """What all layers keep: the last tokens are in the slots before `stop`; `length` tokens were seen.

    A first pass leaves views of what it computed anyway; a continuation writes to the slots behind `stop`, of which there
    are never more than two memories long. So a second continuation overwrites the first.
    """

    layers: list[LayerMemory]
    stop: int
    length: int


@dataclass(frozen=True)
class Sight:
    """Who (row) sees whom (column), how far back that is (0 to reach - 1), and R: a row for each distance there can be."""

    visible: Bool[Tensor, "queries keys"]
    distances: Int64[Tensor, "queries keys"]
    reach: int
    table: Float[Tensor, "all embed"]


def sinusoids(num_distances: int, embed_dim: int) -> Float[Tensor, "{num_distances} {embed_dim}"]:
    """Return R: sines and cosines in turn, of wavelengths 2 pi to 10000 x 2 pi. Vaswani et al. 2017, section 3.5."""
    frequencies = 10000.0 ** (-torch.arange(0, embed_dim, 2, dtype=torch.float32) / embed_dim)
    table = torch.outer(torch.arange(num_distances, dtype=torch.float32), frequencies)
    return torch.stack([table.sin(), table.cos()], dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Multi-head attention whose scores are the four terms of section 3.3, divided by the root of the head width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.pdrop = config.attn_pdrop
        self.scale = (config.embed_dim // config.num_heads) ** -0.5
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim, bias=False)
        self.relative = Linear(config.embed_dim, config.embed_dim, bias=False)  # W_kR of the paper
        self.out = Linear(config.embed_dim, config.embed_dim, bias=False)

    def forward(
        self, x: Sequence, biases: Tensor, sight: Sight, past: LayerMemory | None, start: int
    ) -> tuple[Sequence, LayerMemory]:
        """Return the mixed values, and the layer's memory. `biases` are u and v of each head."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, new = qkv[0], qkv[1:]
        by_distance = self._by_distance(sight.table, past)
        content_bias, position_bias = biases[:, :, None]
        keys_values = new if past is None else _written(past.keys_values, new, start, sight.visible.shape[1])
        attended = attention(
            query + content_bias,  # terms (a) and (c)
            keys_values[0],
            keys_values[1],
            mask=self._position_scores(query + position_bias, by_distance, sight),
            pdrop=self.pdrop if self.training else 0.0,
        )
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        kept = new if past is None else past.keys_values
        return mixed, LayerMemory(kept.detach(), by_distance.detach())

    def _by_distance(self, table: Tensor, past: LayerMemory | None) -> Float[Tensor, "heads width distances"]:
        """Return W_kR R for each head: the memory's, unless W_kR learns from this pass."""
        if past is not None and not torch.is_grad_enabled():
            return past.by_distance
        projected: Tensor = self.relative(table)
        return projected.view(len(table), self.num_heads, -1).permute(1, 2, 0)

    def _position_scores(
        self, query: Float[Tensor, "batch heads queries width"], by_distance: Tensor, sight: Sight
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return terms (b) and (d), and minus infinity where nothing is seen."""
        scores = query @ by_distance[:, :, : sight.reach] * self.scale
        placed: Tensor = scores.gather(-1, sight.distances.expand(*scores.shape[:2], -1, -1))
        return placed.masked_fill(~sight.visible, -torch.inf)


def _written(slots: Tensor, new: Tensor, start: int, num_keys: int) -> Tensor:
    """Return the last `num_keys` keys and values after the new ones are written to their slots.

    Where there are gradients, they flow to the new ones; else it is a view.
    """
    stop = start + new.shape[3]
    with torch.no_grad():
        slots[:, :, :, start:stop] = new
    if not torch.is_grad_enabled():
        return slots[:, :, :, stop - num_keys : stop]
    return torch.cat([slots[:, :, :, stop - num_keys : start], new], dim=3)


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each added to its input and normalised after it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.embed_dim, hidden_dim(config.embed_dim, config.hidden_multiple)
        self.attention = RelativeAttention(config)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(Linear(width, hidden), nn.ReLU(), Linear(hidden, width))
        self.norm2 = nn.LayerNorm(width)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(
        self, x: Sequence, biases: Tensor, sight: Sight, past: LayerMemory | None, start: int
    ) -> tuple[Sequence, LayerMemory]:
        """Return the block's output, and the layer's memory."""
        mixed, memory = self.attention(x, biases, sight, past, start)
        x = self.norm1(x + self.dropout(mixed))
        return self.norm2(x + self.dropout(self.mlp(x))), memory


class TransformerXL(nn.Module):
    """The backbone. The last block's norm is the final one. `biases` are u and v, shared by all layers (section 3.3).

    In every layer a token sees itself and the `memory_tokens` tokens before it, however the sequence was cut into passes:
    a sliding window in place of the paper's memory and all that came before in the segment.
    """

    sinusoids: Tensor
    window: int | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.memory_tokens = config.memory_tokens
        head_dim = config.embed_dim // config.num_heads
        self.biases = nn.Parameter(torch.empty(2, config.num_heads, head_dim).normal_(std=0.02))
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.register_buffer(
            "sinusoids", sinusoids(config.memory_tokens + 1, config.embed_dim), persistent=False
        )
        self.apply(initialise)

    def has_decay(self, name: str) -> bool:
        """Return whether a parameter that is no layer's decays: u and v are biases."""
        del name
        return False

    def forward(self, embeddings: Sequence, memory: Recent | None = None) -> tuple[Sequence, Recent]:
        """Return the outputs at all positions and the memory, see `Backbone`."""
        num_new, seen = embeddings.shape[1], 0 if memory is None else memory.length
        num_keys = min(seen, self.memory_tokens) + num_new
        pasts, start = ([None] * len(self.blocks), 0) if memory is None else self._writable(memory, num_new)
        positions = torch.arange(num_keys, device=embeddings.device)
        sight = self._sight(positions[-num_new:, None] - positions, num_keys)
        x = self.dropout(embeddings)
        layers = []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, layer = block(x, self.biases, sight, past, start)
            layers.append(layer)
        return x, Recent(layers, start + num_new, seen + num_new)

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches in one pass, see `Backbone`."""
        length, num_queries, device = embeddings.shape[1], len(queries), embeddings.device
        positions = branched_positions(length, num_queries, every=every).to(device)
        may_see = belonging(length, num_queries, every=every).to(device)
        sight = self._sight(positions[:, None] - positions, length + num_queries, may_see)
        x = self.dropout(branched(embeddings, queries, every=every))
        for block in self.blocks:
            x, _ = block(x, self.biases, sight, None, 0)
        return split_branches(x, length, num_queries)

    def _sight(
        self, distances: Int64[Tensor, "queries keys"], num_positions: int, may_see: Tensor | None = None
    ) -> Sight:
        """Return who sees whom within the sliding window, and the distances there are among so many positions."""
        reach = min(num_positions, self.memory_tokens + 1)
        visible = (distances >= 0) & (distances < reach)
        allowed = visible if may_see is None else visible & may_see
        return Sight(allowed, distances.clamp(0, reach - 1), reach, self.sinusoids)

    def _writable(self, memory: Recent, num_new: int) -> tuple[list[LayerMemory], int]:
        """Return layers with slots for the new tokens, and the first of these. Without room, the last tokens move."""
        if memory.stop + num_new <= memory.layers[0].keys_values.shape[3]:
            return memory.layers, memory.stop
        num_kept = min(memory.length, self.memory_tokens)
        room = (0, 0, 0, self.memory_tokens + max(num_new, self.memory_tokens) - num_kept)
        kept = slice(memory.stop - num_kept, memory.stop)
        return [
            LayerMemory(F.pad(layer.keys_values[:, :, :, kept], room), layer.by_distance)
            for layer in memory.layers
        ], num_kept
