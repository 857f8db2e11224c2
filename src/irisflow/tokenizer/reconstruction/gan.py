"""The adversarial term of VQGAN (Esser et al. 2021, equations 5 to 7): a discriminator learns to tell patches of drawn
pictures from seen ones, and the tokenizer to draw patches that it takes for seen.

The discriminator is PatchGAN's (Isola et al. 2017, section 3.2), the loss the hinge of Lim and Ye (2017), as in VQGAN's
published code, and tokenizer and discriminator learn in one step of one Adam. Three things are other than there:

- GroupNorm (Wu and He 2018) in place of BatchNorm: a picture's logits then depend neither on the other pictures, which are
  few in a small or accumulated batch, nor on whether real or drawn ones were seen last; nothing is averaged along training
  that a resumed run would have to restore, and a measurement computes what training does.
- Two strided layers in place of three, for 64 x 64 pixels: a logit sees 34 of them. With three it would see 70, everything.
- Building draws nothing from the global generator: a tokenizer starts from the same weights with the term and without.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from irisflow.errors import ConfigError
from irisflow.records import Loss
from irisflow.tokenizer.reconstruction.base import Images, Pictures

LEAST = {"weight": 0, "start_after_updates": 0, "channels": 1, "num_layers": 1}
MOST_WEIGHT = 1e4
STABILISER = 1e-4  # of VQGAN's code; its equation 7 has 1e-6

TERMS = ("gan", "discriminator")
METRICS = ("adaptive_weight", "logits_real", "logits_drawn")

Logits = Float[Tensor, "batch 1 patches_high patches_wide"]


@dataclass(frozen=True)
class Config:
    """Weight beside the adaptive one, forward calls in training before the term counts, and the discriminator's sizes."""

    weight: float = 0.8
    start_after_updates: int = 0
    channels: int = 64
    num_layers: int = 2


def build(config: Config) -> "Adversary":
    """Return the term."""
    with torch.random.fork_rng(devices=[]):
        discriminator = patch_discriminator(config.channels, num_layers=config.num_layers)
    return Adversary(discriminator, weight=config.weight, start_after_updates=config.start_after_updates)


class Adversary(nn.Module):
    """The discriminator, what it learns from, and what the tokenizer learns from it.

    Until `start_after_updates` calls in training mode were made, both terms are 0 and give no gradient at all, not zeros:
    Adam's averages for the discriminator begin with its first real gradient. A call is an update unless gradients are
    accumulated: then it is one of their batches.
    """

    is_adversarial = True
    num_calls: Tensor

    def __init__(self, discriminator: nn.Module, *, weight: float, start_after_updates: int) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.weight, self.start_after_updates = weight, start_after_updates
        self.register_buffer("num_calls", torch.zeros((), dtype=torch.int64))

    def forward(self, pictures: Pictures, *, others: Float[Tensor, ""], last_layer: nn.Parameter) -> Loss:
        """Return `gan`, the tokenizer's term, and `discriminator`, the hinge loss.

        Without a gradient there is no adaptive weight: it counts as 0, as in VQGAN, and with it `gan`. Raises ConfigError
        where there is a gradient, but no other term that the adaptive weight could follow.
        """
        if pictures.prediction.requires_grad and not others.requires_grad:
            raise ConfigError(
                "tokenizer.reconstruction.gan needs another term beside it, whose gradient its weight follows."
                " Add one, such as `+tokenizer.reconstruction.l1.weight=1`."
            )
        has_started = bool(self.num_calls >= self.start_after_updates)
        if self.training:
            self.num_calls += 1
        if not has_started:
            nothing = torch.zeros_like(others)
            return Loss(dict.fromkeys(TERMS, nothing), dict.fromkeys(METRICS, nothing))
        realism = self._realism(pictures.prediction)
        adaptive = adaptive_weight(others, -realism, last_layer)
        real, drawn = self._logits(pictures.target), self._logits(pictures.prediction.detach())
        terms = (-self.weight * adaptive * realism, hinge_loss(real, drawn))
        metrics = (adaptive, real.mean().detach(), drawn.mean().detach())
        return Loss(dict(zip(TERMS, terms, strict=True)), dict(zip(METRICS, metrics, strict=True)))

    def _logits(self, images: Images) -> Logits:
        """Return the discriminator's logits; the gradient reaches it."""
        logits: Tensor = self.discriminator(images)
        return logits.float()

    def _realism(self, prediction: Images) -> Float[Tensor, ""]:
        """Return the mean logit of drawn pictures; the gradient passes through the discriminator without touching it."""
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        logits: Tensor = functional_call(self.discriminator, frozen, (prediction,))
        return logits.float().mean()


def adaptive_weight(
    others: Float[Tensor, ""], adversarial: Float[Tensor, ""], last_layer: nn.Parameter
) -> Float[Tensor, ""]:
    """Return how much stronger the other terms pull at the decoder's last layer, or 0 without a gradient. Equation 7."""
    if not adversarial.requires_grad:
        return torch.zeros_like(adversarial)
    pull, adversarial_pull = (
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].norm() for term in (others, adversarial)
    )
    weight: Tensor = (pull / (adversarial_pull + STABILISER)).clamp(max=MOST_WEIGHT)
    return weight


def hinge_loss(real: Logits, drawn: Logits) -> Float[Tensor, ""]:
    """Return half of what real logits lack to 1 and drawn ones exceed -1 by, each as a mean."""
    return (F.relu(1 - real).mean() + F.relu(1 + drawn).mean()) / 2


def patch_discriminator(channels: int, *, num_layers: int) -> nn.Sequential:
    """Return PatchGAN with `num_layers` convolutions of stride 2, then two of stride 1; the last gives a logit a patch."""
    widths = [channels * min(2**depth, 8) for depth in range(num_layers + 1)]
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for depth, (narrow, wide) in enumerate(pairwise(widths), start=1):
        stride = 2 if depth < num_layers else 1
        convolution = nn.Conv2d(narrow, wide, 4, stride=stride, padding=1, bias=False)
        layers += [convolution, group_norm(wide), nn.LeakyReLU(0.2)]
    layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(*layers)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a normalisation by groups of 16 channels, or by fewer and larger ones where those do not divide."""
    return nn.GroupNorm(gcd(channels, max(1, channels // 16)), channels)
