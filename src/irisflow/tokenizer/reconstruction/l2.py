"""Mean squared difference: unlike the absolute one, it does not ignore what fills a small part of the picture."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss."""

    weight: float = 1.0


def build(config: Config) -> "SquaredDifference":
    """Return the term."""
    return SquaredDifference(weight=config.weight)


class SquaredDifference(nn.Module):
    """Mean over all numbers of the images, on the scale of [-1, 1]."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        return self.weight * F.mse_loss(pictures.prediction, pictures.target)
