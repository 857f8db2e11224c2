"""Huber's distance: squared where the difference is below delta, absolute above it. Huber (1964)."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.errors import ConfigError
from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0}


@dataclass(frozen=True)
class Config:
    """Weight in the tokenizer's loss; the difference, on the scale of [-1, 1], from which on it is absolute."""

    weight: float = 1.0
    delta: float = 0.1


def build(config: Config) -> "HuberDistance":
    """Return the term. Raises ConfigError for a delta that is not above 0."""
    if config.delta <= 0:
        raise ConfigError(
            f"tokenizer.reconstruction.huber.delta is {config.delta}; allowed: a number above 0."
        )
    return HuberDistance(weight=config.weight, delta=config.delta)


class HuberDistance(nn.Module):
    """Mean over all numbers of the images; its slope is the difference, at most delta."""

    def __init__(self, *, weight: float, delta: float) -> None:
        super().__init__()
        self.weight, self.delta = weight, delta

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance."""
        return self.weight * F.huber_loss(pictures.prediction, pictures.target, delta=self.delta)
