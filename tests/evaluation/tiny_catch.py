"""A tokenizer and a world model that know Catch, seconds after they were made."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from irisflow import schema
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.toy import Catch
from irisflow.evaluation.held_out import HeldOut, held_out, windows
from irisflow.randomness import seed_everything
from irisflow.records import Episode, Loss, TokenBatch
from irisflow.tokenizer.nets import Decoder, Encoder
from irisflow.tokenizer.quantizers.vq import VectorQuantizer
from irisflow.tokenizer.reconstruction.base import Pictures
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.world_model.world_model import WorldModel, build_world_model

CPU = torch.device("cpu")
VOCAB, WIDTH, PATCH, WINDOW = 192, 32, 32, 6  # codes, their width, pixels and blocks
GRID = 64 // PATCH
BLOCK = GRID**2 + 1
SIZES = {"num_layers": 2, "num_heads": 4, "embed_dim": 64, "attention": "causal"}
DROPOUT = {"embed_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}


@dataclass(frozen=True)
class TinyCatch:
    """Models before and after training, and episodes that training did not see."""

    fresh_tokenizer: Tokenizer
    tokenizer: Tokenizer
    fresh_world_model: WorldModel
    world_model: WorldModel
    episodes: list[Episode]


class SquaredError(nn.Module):
    """Unlike the absolute error it finds small things soon."""

    def forward(self, pictures: Pictures) -> Tensor:
        return (pictures.target - pictures.prediction).square().mean()


class PatchEncoder(Encoder):
    """Sees each patch for itself, linearly: so a token stands for a patch, and a world model soon finds out which."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images)


class PatchDecoder(Decoder):
    """The way back, linear too."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.patches = nn.Sequential(nn.Conv2d(WIDTH, 3 * PATCH**2, 1), nn.PixelShuffle(PATCH))

    def forward(self, latents: Tensor) -> Tensor:
        return self.patches(latents)


def make_tiny_catch() -> TinyCatch:
    """Return trained models and 50 held-out balls."""
    seed_everything(0)
    episodes = recorded(700, seed=0)
    tokenizer, world_model = make_tokenizer(), make_world_model()
    frames = torch.from_numpy(np.concatenate([episode.observations for episode in episodes])).float() / 255
    give_codes(tokenizer, frames)
    fit(tokenizer, lambda: tokenizer.loss(some(frames)), num_updates=120, learning_rate=2e-2)
    steps = held_out(tokenizer, episodes, time_limit_is_end=True, device=CPU)
    segments = list(windows(steps, length=WINDOW))
    chosen, mask = (torch.cat([getattr(piece, name) for piece in segments]) for name in ("steps", "mask"))

    def world_model_loss() -> Loss:
        rows = torch.randint(len(chosen), (32,))
        return world_model.loss(token_batch(steps, chosen[rows], mask[rows]))

    fit(world_model, world_model_loss, num_updates=700, learning_rate=3e-3)
    return TinyCatch(make_tokenizer(), tokenizer, make_world_model(), world_model, recorded(50, seed=1))


def recorded(num_balls: int, *, seed: int) -> list[Episode]:
    """Return random play."""
    policy = RandomPolicy(3, np.random.default_rng(seed))
    return record_episodes(Catch(size=64), policy, 9 * num_balls, seed)


def make_tokenizer() -> Tokenizer:
    """Return an untrained tokenizer of 2 x 2 patches."""
    return Tokenizer(
        PatchEncoder(),
        PatchDecoder(),
        VectorQuantizer(VOCAB, WIDTH, beta=1.0),
        {"squared": SquaredError()},
        channels=(WIDTH, WIDTH, WIDTH),
        grid=GRID,
    ).eval()


def make_world_model() -> WorldModel:
    """Return an untrained world model."""
    backbone = {"name": "gpt", **SIZES, **DROPOUT, "max_tokens": BLOCK * WINDOW, "tokens_per_block": BLOCK}
    settings = schema.WorldModel(
        name="tiny",
        tokens_per_block=BLOCK,
        max_blocks=WINDOW,
        backbone=backbone,
        prediction={"name": "autoregressive"},
        reward={"name": "sign"},
        **SIZES,
        **DROPOUT,
    )
    return build_world_model(settings, vocab_size=VOCAB, num_actions=3, tokens_per_frame=GRID**2).eval()


def give_codes(tokenizer: Tokenizer, frames: Tensor) -> None:
    """Give each patch that there is a code of its own, for good: the codebook need not find them first."""
    with torch.no_grad():
        tokenizer.encoder.patches.weight *= 20  # so that they lie apart
        latents = tokenizer.latents(frames).movedim(1, -1).reshape(-1, WIDTH)
        found = torch.unique(latents.round(decimals=3), dim=0)
        assert len(found) <= VOCAB
        tokenizer.quantizer.codebook.weight[: len(found)] = found
    for part in (tokenizer.encoder, tokenizer.pre_quant_conv, tokenizer.quantizer):
        part.requires_grad_(False)


def fit(module: nn.Module, loss: Callable[[], Loss], *, num_updates: int, learning_rate: float) -> None:
    """Train a module for a moment."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=learning_rate)
    module.train()
    for _ in range(num_updates):
        optimizer.zero_grad()
        loss().total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    module.eval()


def some(frames: Tensor) -> Tensor:
    """Return a random batch."""
    return frames[torch.randint(len(frames), (32,))]


def token_batch(steps: HeldOut, chosen: Tensor, mask: Tensor) -> TokenBatch:
    """Return the steps as the world model's loss takes them."""
    return TokenBatch(
        steps.tokens[chosen], steps.actions[chosen], steps.signs[chosen].float(), steps.ends[chosen], mask
    )
