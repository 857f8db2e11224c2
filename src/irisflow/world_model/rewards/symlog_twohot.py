"""The reward's size, as a distribution over bins that are evenly spaced in symlog space: regression by classification.

Symexp two-hot of DreamerV3: Hafner et al. 2023, arXiv 2301.04104v2, section "Robust predictions". A target is shared between
the two bins around it, and the prediction is the mean of the bins' values: right on average also where rewards vary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.errors import ConfigError
from irisflow.randomness import Source
from irisflow.world_model.heads import Head
from irisflow.world_model.rewards.base import signs_of
from irisflow.world_model.weights import initialise

LEAST = {"num_bins": 3, "bound": 1e-3}
LARGEST_BOUND = 40.0  # e^40 squared is still a float32


@dataclass(frozen=True)
class Config:
    """Number of bins, and the symlog of the largest reward that has a bin of its own."""

    num_bins: int = 255
    bound: float = 20.0


def build(config: Config, *, embed_dim: int) -> "SymlogTwohot":
    """Return the head. Raises ConfigError for bins that are not symmetric around 0, or too far apart for float32."""
    if config.num_bins % 2 == 0:
        raise ConfigError(
            f"world_model.reward.num_bins is {config.num_bins}; allowed: an odd number, so that one bin is 0."
        )
    if config.bound > LARGEST_BOUND:
        raise ConfigError(f"world_model.reward.bound is {config.bound}; allowed: up to {LARGEST_BOUND:g}.")
    return SymlogTwohot(embed_dim, num_bins=config.num_bins, bound=config.bound)


def symexp(values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return sign(x) (exp(|x|) - 1), the inverse of symlog."""
    return values.sign() * values.abs().expm1()


class SymlogTwohot(Head):
    """The last layer starts at zero: all bins are as likely, and as many below 0 as above it, so that rewards start at 0."""

    bins: Tensor

    def __init__(self, embed_dim: int, *, num_bins: int, bound: float) -> None:
        super().__init__(embed_dim, num_bins)
        self.apply(initialise)
        last = self[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        above = symexp(torch.linspace(0, bound, num_bins // 2 + 1)[1:])
        self.register_buffer("bins", torch.cat([-above.flip(0), torch.zeros(1), above]), persistent=False)

    def forward(self, outputs: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch bins"]:
        """Return the logits, in float32 also under autocast: the outer bins multiply what rounding leaves."""
        with torch.autocast(outputs.device.type, enabled=False):
            logits: Tensor = super().forward(outputs.float())
        return logits

    def loss(
        self,
        outputs: Float[Tensor, "batch time embed"],
        rewards: Float[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy between the two-hot rewards and the predicted distribution."""
        losses = -(self.encode(rewards) * self(outputs).log_softmax(dim=-1)).sum(dim=-1)
        mean: Tensor = (losses * mask).sum() / mask.sum().clamp(min=1)
        return mean

    def sample(
        self, output: Float[Tensor, "batch embed"], *, generator: Source, greedy: bool = False
    ) -> Float[Tensor, " batch"]:
        """Return the expected rewards; nothing is drawn."""
        del generator, greedy
        return self.decode(self(output).softmax(dim=-1))

    def signs(self, outputs: Float[Tensor, "*batch embed"]) -> Int64[Tensor, "*batch"]:
        """Return which of -1, 0 and 1 is nearest to the expected reward; a half counts as 1."""
        return signs_of(self.decode(self(outputs).softmax(dim=-1)))

    def encode(self, rewards: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch bins"]:
        """Return weights of the two bins around each reward, whose mean is the reward; 0 for all other bins.

        Rewards beyond the outermost bins count as those.
        """
        rewards = rewards.float().clamp(self.bins[0], self.bins[-1])
        upper = torch.searchsorted(self.bins, rewards.contiguous(), right=True).clamp(max=len(self.bins) - 1)
        below, above = self.bins[upper - 1], self.bins[upper]
        weight = ((rewards - below) / (above - below))[..., None]
        weights = torch.zeros(*rewards.shape, len(self.bins), device=rewards.device)
        return weights.scatter(-1, upper[..., None], weight).scatter(-1, upper[..., None] - 1, 1 - weight)

    def decode(self, weights: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch"]:
        """Return the mean of the bins' values.

        Each bin is paired with its mirror image first, so that weights which are the same on both sides give exactly 0.
        """
        half = len(self.bins) // 2
        above, below = weights[..., half + 1 :], weights[..., :half].flip(-1)
        return ((above - below) * self.bins[half + 1 :]).sum(dim=-1)
