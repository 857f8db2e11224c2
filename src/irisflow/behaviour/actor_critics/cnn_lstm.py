"""Convolutions and an LSTM under a policy head and a value head. IRIS, section 2.3."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.behaviour.actor_critics._lstm import LSTMCell
from irisflow.behaviour.actor_critics._recurrent import Recurrent
from irisflow.convolution import Conv3x3

LEAST = {"hidden_dim": 1, "channels": 1}


@dataclass(frozen=True)
class Config:
    """Widths of the LSTM and of the convolutions; with `use_original_obs` real play shows real frames."""

    hidden_dim: int
    channels: list[int]
    use_original_obs: bool = False


def build(config: Config, *, num_actions: int, resolution: int, code_map: tuple[int, int, int]) -> "CnnLstm":
    """Return the actor-critic for square images."""
    del code_map
    return CnnLstm(config, num_actions=num_actions, resolution=resolution)


class CnnLstm(Recurrent):
    """The actor-critic. Actor and critic share all but their last layer."""

    sees: Literal["pictures", "codes"] = "pictures"

    def __init__(self, config: Config, *, num_actions: int, resolution: int) -> None:
        super().__init__()
        widths = [3, *config.channels]
        side = resolution >> len(config.channels)
        self.num_actions = num_actions
        self.use_original_obs = config.use_original_obs
        self.convolutions = nn.ModuleList(Conv3x3(before, after) for before, after in pairwise(widths))
        self.lstm = LSTMCell(widths[-1] * side * side, config.hidden_dim)
        self.critic = nn.Linear(config.hidden_dim, 1)
        self.actor = nn.Linear(config.hidden_dim, num_actions)

    def _features(self, views: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        features = 2 * views - 1
        if features.device.type == "cpu":  # pooling is four times faster where channels lie last
            features = features.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            features = nn.functional.max_pool2d(convolution(features), 2).relu()
        return features.flatten(1)
