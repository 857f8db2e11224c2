"""What reads the backbone's outputs."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.world_model.linear import Linear

IGNORED = -100  # a label that does not count


class Head(nn.Sequential):
    """Logits from one output vector: Linear, ReLU, Linear."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(Linear(embed_dim, embed_dim), nn.ReLU(), Linear(embed_dim, num_classes))


def cross_entropy(
    logits: Float[Tensor, "*targets classes"], targets: Int64[Tensor, "*targets"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in float32, over the targets that count."""
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def labels(
    classes: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Int64[Tensor, "batch time"]:
    """Return the classes where the mask is true, and `IGNORED` elsewhere."""
    return classes.masked_fill(~mask, IGNORED)
