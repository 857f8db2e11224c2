"""A frame one token at a time, each given the ones before it. IRIS, section 2.2."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.randomness import Source, sample_categorical
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.heads import IGNORED, Head, cross_entropy
from irisflow.world_model.prediction.base import Blocks, Pass
from irisflow.world_model.weights import initialise


@runtime_checkable
class DrawsFrames(Protocol):
    """A backbone that may draw all tokens of a frame in one call; it returns None where it does not."""

    def drawn_frame(
        self,
        output: Float[Tensor, "batch embed"],
        memory: Any,
        *,
        num_tokens: int,
        head: Head,
        table: Float[Tensor, "vocab embed"],
        source: Source,
    ) -> tuple[Int64[Tensor, "batch tokens"], Memory] | None:
        """Return the tokens and the memory of all but the last."""
        ...


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, *, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> "Autoregressive":
    """Return the prediction."""
    del config
    return Autoregressive(embed_dim, vocab_size, tokens_per_frame)


class Autoregressive(nn.Module):
    """The output at a token predicts the next one; that at the action the first of the next frame."""

    pending = 1

    def __init__(self, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> None:
        super().__init__()
        self.tokens_per_frame = tokens_per_frame
        self.head = Head(embed_dim, vocab_size)
        self.apply(initialise)

    def read(self, blocks: Blocks, *, backbone: Backbone) -> Pass:
        """Return the backbone's pass over the blocks as one sequence."""
        outputs, _ = backbone(blocks.flatten(1, 2))
        return Pass(outputs.view_as(blocks))

    def forward(self, outputs: Blocks) -> Float[Tensor, "batch predictions vocab"]:
        """Return the logits at every position but each frame's last token, whose successor is an action.

        The first predicts the second token of the first frame; the last the first token after the end.
        """
        last = self.tokens_per_frame - 1
        logits: Tensor = self.head(torch.cat([outputs[:, :, :last], outputs[:, :, last + 1 :]], dim=2))
        return logits.flatten(1, 2)

    def loss(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Return the mean over all tokens but the first of the first frame."""
        return cross_entropy(self(seen.outputs)[:, :-1], labels(tokens, mask))

    def likeliest(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"]
    ) -> Int64[Tensor, "batch later tokens"]:
        """Return the likeliest tokens, each also given the real ones before it in its own frame."""
        num_frames, per_frame = tokens.shape[1:]
        after_first: Tensor = self(seen.outputs)[:, per_frame - 1 : num_frames * per_frame - 1].argmax(dim=-1)
        return after_first.reshape(-1, num_frames - 1, per_frame)

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
        """Return the next frame after K - 1 passes, and a memory of all but its last token."""
        if isinstance(backbone, DrawsFrames) and not greedy:
            made = backbone.drawn_frame(
                output,
                memory,
                num_tokens=self.tokens_per_frame,
                head=self.head,
                table=embedding.frame_tokens.weight,
                source=generator,
            )
            if made is not None:
                return made
        tokens = [sample_categorical(self.head(output), generator=generator, greedy=greedy)]
        while len(tokens) < self.tokens_per_frame:
            outputs, memory = backbone(embedding.frame_tokens(tokens[-1])[:, None], memory)
            tokens.append(sample_categorical(self.head(outputs[:, -1]), generator=generator, greedy=greedy))
        return torch.stack(tokens, dim=1), memory


def labels(
    tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
) -> Int64[Tensor, "batch labels"]:
    """Return the targets of all logits but the last: the next token, or `IGNORED` where a step is padding."""
    return tokens.masked_fill(~mask[:, :, None], IGNORED).flatten(1)[:, 1:]
