"""A causal Transformer with learned absolute positions and a key-value cache. IRIS, section 2.2."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from irisflow.attention import attention
from irisflow.dropout import Dropout
from irisflow.errors import ConfigError
from irisflow.linear import Linear
from irisflow.randomness import Source
from irisflow.world_model.backbones._settings import check_heads, check_room
from irisflow.world_model.backbones.base import (
    Branches,
    Sequence,
    belonging,
    branched,
    branched_positions,
    split_branches,
)
from irisflow.world_model.heads import Head
from irisflow.world_model.stepped import Stepped
from irisflow.world_model.weights import initialise

ATTENTION = ("causal", "block_causal")
LEAST = {"num_layers": 1, "num_heads": 1, "embed_dim": 1, "embed_pdrop": 0, "resid_pdrop": 0, "attn_pdrop": 0}


@dataclass(frozen=True)
class Config:
    """Sizes, dropout probabilities, who sees whom, tokens of the longest sequence and of a block."""

    num_layers: int
    num_heads: int
    embed_dim: int
    embed_pdrop: float
    resid_pdrop: float
    attn_pdrop: float
    attention: str
    max_tokens: int
    tokens_per_block: int


def build(config: Config) -> "GPT":
    """Return the backbone. Raises ConfigError for settings that do not fit together."""
    check_heads(config.num_heads, config.embed_dim)
    if config.attention not in ATTENTION:
        raise ConfigError(
            f"world_model.attention: {config.attention!r} does not exist. Allowed: {', '.join(ATTENTION)}."
        )
    return GPT(config, visibility(config))


def visibility(config: Config) -> Tensor:
    """Return who (row) sees whom (column) as booleans: the past, and in `block_causal` one's whole block."""
    positions = torch.arange(config.max_tokens)
    causal = positions[:, None] >= positions
    blocks = positions // config.tokens_per_block
    return causal if config.attention == "causal" else causal | (blocks[:, None] == blocks)


@dataclass(frozen=True)
class KeysValues:
    """The cache: per layer a tensor (2, batch, heads, tokens, head width) whose first `length` tokens count.

    A first pass leaves views of what it computed anyway; the first continuation copies them into tensors of
    full length, which later continuations fill in place. So a second continuation overwrites the first. `weights` are
    those that the cache was made with, in the order of the kernel, if that made some of it.
    """

    layers: list[Tensor]
    length: int
    weights: Tensor | None = None


class SelfAttention(nn.Module):
    """Multi-head attention; query, key and value come from one Linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.pdrop = config.attn_pdrop
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.out = Linear(config.embed_dim, config.embed_dim)

    def forward(
        self, x: Sequence, mask: Tensor | None, cache: Tensor | None, start: int
    ) -> tuple[Sequence, Tensor]:
        """Return what each head attends to, side by side, and this layer's keys and values of everything seen."""
        batch, length, embed = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, keys, values = qkv.unbind()
        if cache is not None:
            with torch.no_grad():
                cache.narrow(3, start, length).copy_(qkv[1:])
            keys, values = cache.narrow(3, 0, start + length)
        attended = attention(
            query,
            keys,
            values,
            mask=mask,
            is_causal=mask is None and length > 1,
            pdrop=self.pdrop if self.training else 0.0,
        )
        side_by_side = attended.transpose(1, 2).reshape(batch, length, embed)
        return side_by_side, qkv[1:] if cache is None else cache


class Perceptron(nn.Sequential):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__(Linear(width, 4 * width), nn.GELU(), Linear(4 * width, width))

    def layers(self) -> tuple[Linear, Linear]:
        """Return both layers, between which there is a GELU."""
        widen, _, narrow = self
        assert isinstance(widen, Linear)
        assert isinstance(narrow, Linear)
        return widen, narrow


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each normalised first and added to its input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(config)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Perceptron(width)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(
        self, x: Sequence, mask: Tensor | None, cache: Tensor | None, start: int
    ) -> tuple[Sequence, Tensor]:
        """Return the block's output, and the keys and values of everything seen."""
        attended, keys_values = self.attention(self.norm1(x), mask, cache, start)
        x = self._added(x, self.attention.out, attended)
        widen, narrow = self.mlp.layers()
        return self._added(x, narrow, widen.gelu(self.norm2(x))), keys_values

    def _added(self, x: Sequence, layer: Linear, rows: Tensor) -> Sequence:
        """Return x plus what a layer makes of the rows, of which training drops some."""
        return x + self.dropout(layer(rows)) if self.training else layer.added(rows, x)


class GPT(nn.Module):
    """The backbone. `visible[i, j]` tells whether position i sees position j."""

    visible: Tensor

    def __init__(self, config: Config, visible: Tensor) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.window = config.max_tokens
        self.is_causal = config.attention == "causal"
        self.positions = nn.Embedding(config.max_tokens, config.embed_dim)
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.embed_dim)
        self.register_buffer("visible", visible, persistent=False)
        self._stepped = Stepped()
        self.apply(initialise)

    def forward(self, embeddings: Sequence, memory: KeysValues | None = None) -> tuple[Sequence, KeysValues]:
        """Return the outputs at all positions and the cache, see `Backbone`."""
        start = 0 if memory is None else memory.length
        stop = start + embeddings.shape[1]
        check_room(stop, self.window)
        if memory is None:
            return self._through_blocks(embeddings, [None] * len(self.blocks), start)
        caches = self._writable(memory)
        made = self._stepped(self, embeddings, caches, start, memory.weights)
        if made is None:
            return self._through_blocks(embeddings, caches, start)
        outputs, weights = made
        return outputs, KeysValues(caches, stop, weights)

    def drawn_frame(
        self,
        output: Float[Tensor, "batch embed"],
        memory: KeysValues,
        *,
        num_tokens: int,
        head: Head,
        table: Float[Tensor, "vocab embed"],
        source: Source,
    ) -> tuple[Int64[Tensor, "batch tokens"], KeysValues] | None:
        """Return a frame's tokens and the memory of all but the last, or None where there is no kernel that draws them.

        The first is drawn by a head from an output, each other one from the output at the embedding of the one before.
        """
        stop = memory.length + num_tokens - 1
        check_room(stop, self.window)
        caches = self._writable(memory)
        made = self._stepped.frame(
            self,
            output,
            caches,
            memory.length,
            memory.weights,
            num_tokens=num_tokens,
            head=head,
            table=table,
            source=source,
        )
        return None if made is None else (made[0], KeysValues(caches, stop, made[1]))

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches in one pass, see `Backbone`."""
        length, num_queries = embeddings.shape[1], len(queries)
        check_room((length - 1) // every * every + num_queries, self.window)
        positions = branched_positions(length, num_queries, every=every).to(embeddings.device)
        visible = self.visible[positions][:, positions]
        mask = visible & belonging(length, num_queries, every=every).to(embeddings.device)
        x = self.dropout(branched(embeddings, queries, every=every) + self.positions(positions))
        for block in self.blocks:
            x, _ = block(x, mask, None, 0)
        return split_branches(self.norm(x), length, num_queries)

    def _through_blocks(
        self, embeddings: Sequence, caches: list[Tensor] | list[None], start: int
    ) -> tuple[Sequence, KeysValues]:
        """Return the outputs and the cache by torch's operations, block after block."""
        stop = start + embeddings.shape[1]
        mask = self._mask(start, stop)
        x = self.dropout(embeddings + self.positions.weight[start:stop])
        layers = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, keys_values = block(x, mask, cache, start)
            layers.append(keys_values)
        return self.norm(x), KeysValues(layers, stop)

    def _mask(self, start: int, stop: int) -> Tensor | None:
        """Return the visible pairs, or None where plain causality (or a single token) says the same."""
        if stop - start == 1 or (start == 0 and self.is_causal):
            return None
        return self.visible[start:stop, :stop]

    def _writable(self, memory: KeysValues) -> list[Tensor]:
        """Return caches of full length."""
        missing = self.window - memory.layers[0].shape[-2]
        if missing == 0:
            return memory.layers
        return [F.pad(layer.detach(), (0, 0, 0, missing)) for layer in memory.layers]
