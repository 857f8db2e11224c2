"""A whole frame in one pass: K learned queries after the action are read as the K tokens of the next frame.

Parallel observation prediction (POP) of REM: Cohen et al. 2024, "Improving Token-Based World Models with Parallel
Observation Prediction", arXiv 2402.05643, section 2. REM does it on a RetNet; here any backbone that branches will do.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.randomness import Source, sample_categorical
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.heads import Head
from irisflow.world_model.prediction.base import Blocks, Pass, mean_cross_entropy
from irisflow.world_model.weights import initialise


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, *, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> "Parallel":
    """Return the prediction."""
    del config
    return Parallel(embed_dim, vocab_size, tokens_per_frame)


class Parallel(nn.Module):
    """The tokens of a frame are drawn independently of each other, given the past.

    The queries see the blocks before them and each other as the backbone lets them; what follows sees no query. So the
    frame itself is still to be forwarded, with the next action.
    """

    def __init__(self, embed_dim: int, vocab_size: int, tokens_per_frame: int) -> None:
        super().__init__()
        self.pending = tokens_per_frame
        self.queries = nn.Embedding(tokens_per_frame, embed_dim)
        self.head = Head(embed_dim, vocab_size)
        self.apply(initialise)

    def read(self, blocks: Blocks, *, backbone: Backbone) -> Pass:
        """Return the backbone's pass over the blocks as one sequence, with a branch of queries after all but the last."""
        sequence = blocks.flatten(1, 2)
        outputs, branches = backbone.branch(sequence, self.queries.weight, every=blocks.shape[2])
        return Pass(outputs.view_as(blocks), branches)

    def forward(self, seen: Pass) -> Float[Tensor, "batch later tokens vocab"]:
        """Return the logits of every frame but the first, each given the blocks before it."""
        assert seen.branches is not None
        logits: Tensor = self.head(seen.branches)
        return logits

    def loss(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Return the mean over the tokens of all frames but the first; 0 where there is none."""
        later = tokens[:, 1:]
        return mean_cross_entropy(self(seen), later, counted=mask[:, 1:, None].expand_as(later))

    def likeliest(
        self, seen: Pass, tokens: Int64[Tensor, "batch time tokens"]
    ) -> Int64[Tensor, "batch later tokens"]:
        """Return the likeliest tokens, given the real frames before; nothing of the frame's own."""
        del tokens
        found: Tensor = self(seen).argmax(dim=-1)
        return found

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
        """Return the next frame after one pass, and the memory from before it: the queries are forgotten."""
        del embedding
        outputs, _ = backbone(self.queries.weight.expand(len(output), -1, -1), memory)
        return sample_categorical(self.head(outputs), generator=generator, greedy=greedy), memory
