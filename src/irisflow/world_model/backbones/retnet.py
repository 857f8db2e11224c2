"""A Retentive Network: attention in which a decay takes the place of the softmax, so that the past fits in a matrix.

Sun et al. 2023, "Retentive Network: A Successor to Transformer for Large Language Models", section 2. Values and gate are
twice as wide as the model and so is the FFN (section 3.1), which gives a layer the 12 d^2 weights of a Transformer's.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from irisflow.dropout import Dropout
from irisflow.errors import ConfigError
from irisflow.linear import Linear
from irisflow.world_model.backbones._settings import check_causal
from irisflow.world_model.backbones.base import (
    Branches,
    Sequence,
    branched,
    branched_positions,
    branched_visibility,
    split_branches,
)

LEAST = {
    "num_layers": 1,
    "num_heads": 1,
    "embed_dim": 1,
    "embed_pdrop": 0,
    "resid_pdrop": 0,
    "chunk_tokens": 2,
}
WIDTH_FACTOR = 2  # of values, gate and FFN

Keys = Float[Tensor, "batch heads length key"]
Values = Float[Tensor, "batch heads length value"]
State = Float[Tensor, "batch heads key value"]
Decay = Float[Tensor, "heads tokens tokens"]


@dataclass(frozen=True)
class Config:
    """Sizes, dropout probabilities, and how many tokens are retained in parallel: longer pieces go chunk by chunk."""

    num_layers: int
    num_heads: int
    embed_dim: int
    embed_pdrop: float
    resid_pdrop: float
    attention: str = "causal"
    chunk_tokens: int = 512


def build(config: Config) -> "RetNet":
    """Return the backbone. Raises ConfigError for settings that do not fit together."""
    if config.embed_dim % (2 * config.num_heads):
        raise ConfigError(
            f"world_model.num_heads: {config.num_heads} heads do not divide embed_dim {config.embed_dim} into even"
            " widths, which the rotation needs. Allowed: a divisor of embed_dim / 2."
        )
    check_causal(config.attention, "retnet")
    return RetNet(config)


@dataclass(frozen=True)
class States:
    """The memory: per layer the heads' state matrices after `length` tokens. Nothing is ever written into them."""

    layers: list[State]
    length: int


@dataclass(frozen=True)
class Timing:
    """What the positions of a piece decide, in every layer alike.

    `query_scale` holds two of section 2.1's normalisations, which the group norm undoes and which keep numbers small:
    1 / sqrt(key width), and 1 / sqrt(sum of the row of D), here in closed form. The third, which needs the scores
    themselves, is left out: with these two the state is bounded already.
    """

    cos: Float[Tensor, "length pairs"]
    sin: Float[Tensor, "length pairs"]
    query_scale: Float[Tensor, "heads length 1"]
    decay: Decay


def decay_matrix(
    positions: Int64[Tensor, " tokens"],
    visible: Bool[Tensor, "tokens tokens"],
    log_gamma: Float[Tensor, " heads"],
) -> Decay:
    """Return D of equation 5: gamma to the distance in time, zero for what is not visible."""
    distances = (positions[:, None] - positions).clamp(min=0)
    return torch.exp(distances * log_gamma[:, None, None]) * visible


def rotated(x: Keys, timing: Timing) -> Keys:
    """Return pairs of features turned by the angle of their position: xPos without a decay, equation 4."""
    even, odd = x[..., ::2], x[..., 1::2]
    turned = [even * timing.cos - odd * timing.sin, even * timing.sin + odd * timing.cos]
    return torch.stack(turned, dim=-1).flatten(-2)


def parallel(queries: Keys, keys: Keys, values: Values, decay: Decay) -> Values:
    """Return what is retained at every position. Equation 5."""
    return ((queries @ keys.mT) * decay) @ values


def recurrent(
    queries: Keys, keys: Keys, values: Values, log_gamma: Float[Tensor, " heads"], state: State | None
) -> tuple[Values, State]:
    """Return what is retained at one token, and the state after it. Equation 6."""
    new = keys.mT * values
    if state is not None:
        new = new + log_gamma.exp()[:, None, None] * state
    return queries @ new.to(queries.dtype), new


def chunkwise(
    queries: Keys,
    keys: Keys,
    values: Values,
    decay: Decay,
    log_gamma: Float[Tensor, " heads"],
    state: State | None,
) -> tuple[Values, State]:
    """Return what is retained at every position, and the state after the last, by chunks as long as `decay`.

    Equation 7: in parallel within a chunk, recurrent from chunk to chunk. Gradients flow from chunk to chunk.
    """
    gamma = log_gamma.exp()[:, None, None]
    retained = []
    chunks = (torch.split(part, decay.shape[-1], dim=2) for part in (queries, keys, values))
    for q, k, v in zip(*chunks, strict=True):
        length = q.shape[2]
        within = decay[:, :length, :length]
        output = parallel(q, k, v, within)
        left_by_chunk = k.mT @ (v * within[:, -1, :, None])
        if state is None:
            state = left_by_chunk
        else:
            since_start = within[:, :, :1] * gamma
            output = output + (q @ state.to(q.dtype)) * since_start
            state = left_by_chunk + since_start[:, -1:] * state
        retained.append(output)
    assert state is not None
    return torch.cat(retained, dim=2), state


class Retention(nn.Module):
    """Gated multi-scale retention, equation 8: each head has its own decay and its own normalisation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, wide = config.embed_dim, WIDTH_FACTOR * config.embed_dim
        self.num_heads = config.num_heads
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, wide, bias=False)
        self.gate = Linear(width, wide, bias=False)
        self.norm = nn.GroupNorm(config.num_heads, wide, eps=1e-6)
        self.out = Linear(wide, width, bias=False)

    def forward(
        self, x: Sequence, timing: Timing, log_gamma: Float[Tensor, " heads"], state: State | None
    ) -> tuple[Sequence, State]:
        """Return the mixed values, and the state after the last of them."""
        projected = self._projected(x, timing)
        if x.shape[1] == 1:
            retained, state = recurrent(*projected, log_gamma, state)
        else:
            retained, state = chunkwise(*projected, timing.decay, log_gamma, state)
        return self._gated(x, retained), state

    def _projected(self, x: Sequence, timing: Timing) -> tuple[Keys, Keys, Values]:
        """Return scaled and rotated queries, rotated keys, and values, by head."""
        queries, keys, values = (
            rearrange(projection(x), "b n (h d) -> b h n d", h=self.num_heads)
            for projection in (self.query, self.key, self.value)
        )
        return rotated(queries, timing) * timing.query_scale, rotated(keys, timing), values

    def _gated(self, x: Sequence, retained: Values) -> Sequence:
        """Return the heads' outputs, each normalised, gated and mixed."""
        batch, _, length, _ = retained.shape
        normalised = self.norm(rearrange(retained, "b h n d -> (b n) (h d)")).view(batch, length, -1)
        mixed: Tensor = self.out(silu(self.gate(x)) * normalised)
        return mixed


class Block(nn.Module):
    """Retention, then a two-layer perceptron, each normalised first and added to its input. Equation 9."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, wide = config.embed_dim, WIDTH_FACTOR * config.embed_dim
        self.norm1 = nn.LayerNorm(width)
        self.retention = Retention(config)
        self.norm2 = nn.LayerNorm(width)
        self.widen = Linear(width, wide, bias=False)
        self.narrow = Linear(wide, width, bias=False)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(
        self, x: Sequence, timing: Timing, log_gamma: Float[Tensor, " heads"], state: State | None
    ) -> tuple[Sequence, State]:
        """Return the block's output, and its state after the last token."""
        mixed, state = self.retention(self.norm1(x), timing, log_gamma, state)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.narrow(gelu(self.widen(self.norm2(x))))), state


class RetNet(nn.Module):
    """The backbone. A memory's size does not depend on how much was seen, and there is no window.

    A first pass is parallel, unless it is longer than a chunk; a continuation by several tokens is chunkwise, one by a
    single token recurrent.
    """

    log_gamma: Tensor
    angles: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.window = None
        self.chunk_tokens = config.chunk_tokens
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.embed_dim)
        key_width = config.embed_dim // config.num_heads
        heads = torch.arange(config.num_heads, dtype=torch.float64)
        pairs = torch.arange(0, key_width, 2, dtype=torch.float64)
        self.register_buffer("log_gamma", torch.log1p(-(2.0 ** (-5 - heads))).float(), persistent=False)
        self.register_buffer("angles", (10_000.0 ** (-pairs / key_width)).float(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Draw weights by Xavier, smaller where they decide how much layers add to each other.

        By (8 N)^(-1/4) in N layers, as DeepNet does (Wang et al. 2022), which the paper says it follows (section 3.1).
        The authors' code has other factors, derived for pre-LN (github.com/microsoft/torchscale/issues/68).
        """
        small = (8 * len(self.blocks)) ** -0.25
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                gain = (
                    small
                    if name.endswith(("value.weight", "out.weight", "widen.weight", "narrow.weight"))
                    else 1.0
                )
                nn.init.xavier_normal_(parameter, gain=gain)

    def forward(self, embeddings: Sequence, memory: States | None = None) -> tuple[Sequence, States]:
        """Return the outputs at all positions and the states after the last, see `Backbone`."""
        start = 0 if memory is None else memory.length
        stop = start + embeddings.shape[1]
        timing = self._contiguous(start, stop)
        states = [None] * len(self.blocks) if memory is None else memory.layers
        x = self.dropout(embeddings)
        layers = []
        for block, state in zip(self.blocks, states, strict=True):
            x, after = block(x, timing, self.log_gamma, state)
            layers.append(after.detach())
        return self.norm(x), States(layers, stop)

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches in one parallel pass, see `Backbone`."""
        length, num_queries = embeddings.shape[1], len(queries)
        positions = branched_positions(length, num_queries, every=every).to(embeddings.device)
        visible = branched_visibility(length, num_queries, every=every).to(embeddings.device)
        timing = self._timing(positions, decay_matrix(positions, visible, self.log_gamma))
        x = self.dropout(branched(embeddings, queries, every=every))
        for block in self.blocks:
            x, _ = block(x, timing, self.log_gamma, None)  # as one chunk, so whatever the decay matrix shows
        return split_branches(self.norm(x), length, num_queries)

    def _contiguous(self, start: int, stop: int) -> Timing:
        """Return the timing of consecutive tokens, with the decay within a chunk."""
        positions = torch.arange(start, stop, device=self.log_gamma.device)
        first = positions[: self.chunk_tokens]
        return self._timing(positions, decay_matrix(first, first[:, None] >= first, self.log_gamma))

    def _timing(self, positions: Int64[Tensor, " length"], decay: Decay) -> Timing:
        """Return the timing of tokens at these positions. Angles are exact however late a token comes."""
        turns = positions[:, None].double() * self.angles.double()
        log_gamma = self.log_gamma[:, None].double()
        row_sums = torch.expm1((positions + 1) * log_gamma) / torch.expm1(log_gamma)
        scale = (row_sums * 2 * len(self.angles)).rsqrt()[..., None]
        dtype = self.log_gamma.dtype
        return Timing(turns.cos().to(dtype), turns.sin().to(dtype), scale.to(dtype), decay)
