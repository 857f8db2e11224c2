"""Pretraining of one component on recorded episodes, outside IRIS's epochs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from irisflow import schema
from irisflow.data.replay import ReplayBuffer
from irisflow.progress import progress
from irisflow.records import Episode, Loss
from irisflow.training.update import Component, mean_terms

NUM_REPORTS = 20


@dataclass(frozen=True)
class Pretrained:
    """What pretraining gave: rows of mean losses, one for each twentieth of the updates."""

    metrics: list[dict[str, float]]
    num_updates: int


def as_replay(episodes: list[Episode], *, time_limit_is_end: bool) -> ReplayBuffer:
    """Return recorded episodes as a buffer to sample from."""
    num_steps, shape = sum(len(episode) for episode in episodes), episodes[0].observations.shape[1:]
    replay = ReplayBuffer(num_steps, shape, time_limit_is_end=time_limit_is_end)
    for episode in episodes:
        replay.append(episode)
    return replay


def pretrain(
    name: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Loss],
    *,
    num_updates: int,
    training: schema.ComponentTraining,
) -> Pretrained:
    """Return the losses along `num_updates` updates of a component. Raises DivergedError as training does."""
    component = Component(
        name,
        module,
        optimizer,
        loss,
        grad_acc_steps=training.grad_acc_steps,
        max_grad_norm=training.max_grad_norm,
    )
    module.train()
    rows: list[dict[str, float]] = []
    history = []
    for done in progress(range(1, num_updates + 1), what=f"pretraining {name}", unit="update"):
        history.append(component.update())
        if done * NUM_REPORTS // num_updates > len(rows):
            means = {f"train/{term}": value for term, value in mean_terms(history).items()}
            rows.append({"num_updates": done, **means})
            history = []
    module.eval()
    return Pretrained(rows, num_updates)
