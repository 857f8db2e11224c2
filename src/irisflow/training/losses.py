"""Losses of the tokenizer and the world model on freshly sampled batches: training and pretraining use the same ones."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch

from irisflow import schema
from irisflow.data.replay import ReplayBuffer, SampleBy
from irisflow.records import Batch, Loss, TokenBatch
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.training.encoded import EncodedReplay
from irisflow.world_model.world_model import WorldModel


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

    def loss() -> Loss:
        batch = replay.sample(batch_size, 1, anchor="start", sample_by=sample_by, rng=rng)
        return tokenizer.loss(batch.observations.to(device).flatten(0, 1))

    return loss


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
    tokens = tokenizer.encode(batch.observations) if batch.tokens is None else batch.tokens
    return TokenBatch(tokens, batch.actions, batch.rewards, batch.ends, batch.mask)
