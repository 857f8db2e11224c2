"""What reads the backbone's outputs."""

from torch import nn


class Head(nn.Sequential):
    """Logits from one output vector: Linear, ReLU, Linear."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Linear(embed_dim, num_classes))
