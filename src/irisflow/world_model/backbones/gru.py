"""Residual blocks of gated recurrent units: what is remembered has one size, however much was seen.

Cho et al. 2014, section 2.3, in the form of `torch.nn.GRU`, which applies the reset gate after the recurrent matrix. A block
normalises first, as one of `gpt` does, and has a GRU in place of attention and perceptron.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.dropout import Dropout
from irisflow.linear import Linear
from irisflow.world_model.backbones._settings import check_causal, hidden_dim
from irisflow.world_model.backbones.base import Branches, Sequence
from irisflow.world_model.weights import initialise

LEAST = {"num_layers": 1, "embed_dim": 1, "hidden_multiple": 0, "embed_pdrop": 0, "resid_pdrop": 0}

State = Float[Tensor, "rows hidden"]
Outputs = Float[Tensor, "rows tokens embed"]


@dataclass(frozen=True)
class Config:
    """Sizes and dropout probabilities; a GRU is `hidden_multiple` times as wide as the model, rounded to a multiple of 8."""

    num_layers: int
    embed_dim: int
    hidden_multiple: float
    embed_pdrop: float
    resid_pdrop: float
    attention: str = "causal"


def build(config: Config) -> "GRU":
    """Return the backbone. Raises ConfigError for an attention other than the causal one, which recurrence is."""
    check_causal(config.attention, "gru")
    return GRU(config)


@dataclass(frozen=True)
class Hidden:
    """The hidden state of each layer, (batch, hidden), and how many tokens made it."""

    layers: list[Tensor]
    length: int


class Block(nn.Module):
    """norm, GRU, and a Linear back to the model's width, added to the input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = hidden_dim(config.embed_dim, config.hidden_multiple)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.gru = nn.GRU(config.embed_dim, hidden, batch_first=True)
        self.out = Linear(hidden, config.embed_dim)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(self, x: Outputs, state: State | None) -> tuple[Outputs, Float[Tensor, "rows tokens hidden"]]:
        """Return the block's output and the hidden states at all tokens. The recurrence stays in float32."""
        normalised = self.norm(x)
        with torch.autocast(x.device.type, enabled=False):
            states, _ = self.gru(normalised.float(), None if state is None else state[None].float())
        return x + self.dropout(self.out(states)), states


class GRU(nn.Module):
    """The backbone."""

    window: int | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.embed_dim)
        self.apply(initialise)

    def has_decay(self, name: str) -> bool:
        """Return whether a parameter of a GRU decays: its matrices do."""
        return name.rpartition(".")[2].startswith("weight")

    def forward(self, embeddings: Sequence, memory: Hidden | None = None) -> tuple[Sequence, Hidden]:
        """Return the outputs at all positions and the hidden states, see `Backbone`."""
        before = [None] * len(self.blocks) if memory is None else memory.layers
        x, layers = self.dropout(embeddings), []
        for block, state in zip(self.blocks, before, strict=True):
            x, states = block(x, state)
            layers.append(states[:, -1].detach().clone())  # a view would keep all states
        return self.norm(x), Hidden(layers, embeddings.shape[1] + (0 if memory is None else memory.length))

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches, see `Backbone`: in each layer the queries go on from the trunk's states."""
        batch, length, width = embeddings.shape
        num_branches = (length - 1) // every
        x = self.dropout(embeddings)
        put_after = self.dropout(queries.expand(batch * num_branches, -1, -1))
        for block in self.blocks:
            x, states = block(x, None)
            at_ends = states[:, every - 1 : num_branches * every : every].flatten(0, 1)
            if num_branches:
                put_after, _ = block(put_after, at_ends)
        branches = self.norm(put_after).view(batch, num_branches, len(queries), width)
        return self.norm(x), branches
