"""Losses of the tokenizer and the world model on freshly sampled batches: training and pretraining use the same ones."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from irisflow import schema
from irisflow.data.replay import ReplayBuffer, SampleBy
from irisflow.records import Batch, Loss, TokenBatch
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.training.encoded import EncodedReplay
from irisflow.world_model.world_model import WorldModel

Frames = Float[Tensor, "batch 3 height width"]


def sample_rule(training: schema.Training) -> SampleBy:
    """Return how episodes are drawn; the schema allows no other word."""
    return cast(SampleBy, training.sample_by)


def tokenizer_loss(
    tokenizer: Tokenizer,
    replay: ReplayBuffer,
    rng: np.random.Generator,
    device: torch.device,
    *,
    batch_size: int,
    sample_by: SampleBy,
) -> Callable[[], Loss]:
    """Return a function that draws single frames and returns the tokenizer's loss on them."""

    num_frames = 1 + tokenizer.needs_previous

    def loss() -> Loss:
        batch = replay.sample(batch_size, num_frames, anchor="end", sample_by=sample_by, rng=rng)
        return tokenizer.loss(*frames_of(batch.to(device)))

    return loss


def frames_of(batch: Batch) -> tuple[Frames, Frames | None]:
    """Return the last frame of each segment, and, where segments have two, the one before it.

    At the first step of an episode that is the frame itself.
    """
    frames = batch.frames[:, -1]
    if batch.frames.shape[1] == 1:
        return frames, None
    is_first = ~batch.mask[:, 0, None, None, None]
    return frames, torch.where(is_first, frames, batch.frames[:, 0])


def world_model_loss(
    world_model: WorldModel,
    replay: EncodedReplay,
    rng: np.random.Generator,
    *,
    batch_size: int,
    length: int,
    sample_by: SampleBy,
) -> Callable[[], Loss]:
    """Return a function that draws encoded segments and returns the world model's loss on them."""

    def loss() -> Loss:
        batch = replay.sample(batch_size, length, anchor="start", sample_by=sample_by, rng=rng)
        return world_model.loss(encoded(replay.tokenizer, batch))

    return loss


def encoded(tokenizer: Tokenizer, batch: Batch) -> TokenBatch:
    """Return the batch with tokens in place of frames; no gradient reaches the tokenizer."""
    tokens = tokenizer.encode(batch.frames) if batch.tokens is None else batch.tokens
    return TokenBatch(tokens, batch.actions, batch.rewards, batch.ends, batch.mask)
