"""Mean absolute difference. IRIS, section 2.1."""

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


def build(config: Config) -> "AbsoluteDifference":
    """Return the term."""
    return AbsoluteDifference(weight=config.weight)


class AbsoluteDifference(nn.Module):
    """Mean over all numbers of the images, on the scale of [-1, 1]."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        return self.weight * F.l1_loss(pictures.prediction, pictures.target)
