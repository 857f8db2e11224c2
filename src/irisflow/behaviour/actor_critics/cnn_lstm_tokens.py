"""Convolutions and an LSTM on the codes of a frame's tokens: imagination decodes no pictures.

IRIS's policy sees reconstructions (section 2.3); this one sees the vectors that the tokenizer's decoder starts from, on
their grid. Asked for in issue 15 of IRIS's repository.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.behaviour.actor_critics._lstm import LSTMCell
from irisflow.behaviour.actor_critics._recurrent import Recurrent

LEAST = {"hidden_dim": 1, "channels": 1}


@dataclass(frozen=True)
class Config:
    """Widths of the LSTM and of the convolutions."""

    hidden_dim: int
    channels: list[int]


def build(
    config: Config, *, num_actions: int, resolution: int, code_map: tuple[int, int, int]
) -> "CnnLstmTokens":
    """Return the actor-critic for maps of codes."""
    del resolution
    return CnnLstmTokens(config, num_actions=num_actions, code_map=code_map)


class CnnLstmTokens(Recurrent):
    """The actor-critic. Codes may be of any size, and a codebook's grows while it learns: each map is normalised first."""

    sees: Literal["pictures", "codes"] = "codes"
    use_original_obs = False

    def __init__(self, config: Config, *, num_actions: int, code_map: tuple[int, int, int]) -> None:
        super().__init__()
        embed, height, width = code_map
        widths = [embed, *config.channels]
        self.num_actions = num_actions
        self.norm = nn.GroupNorm(1, embed)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )
        self.lstm = LSTMCell(widths[-1] * height * width, config.hidden_dim)
        self.critic = nn.Linear(config.hidden_dim, 1)
        self.actor = nn.Linear(config.hidden_dim, num_actions)

    def _features(self, views: Float[Tensor, "batch embed height width"]) -> Float[Tensor, "batch features"]:
        features: Tensor = self.norm(views)
        for convolution in self.convolutions:
            features = convolution(features).relu()
        return features.flatten(1)
