"""Evaluation while training: full test games, then the models' losses on what was seen there (IRIS's protocol)."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from irisflow import schema
from irisflow.behaviour.agent import Agent
from irisflow.data.replay import ReplayBuffer
from irisflow.evaluation.play import AgentPlayer, PlayedEpisode, play_episodes
from irisflow.randomness import derived_seed
from irisflow.records import Loss
from irisflow.training.losses import encoded, frames_of
from irisflow.training.update import Terms, mean_terms


class Tester:
    """Plays test games and measures tokenizer and world model on their frames; no weight changes."""

    def __init__(self, agent: Agent, settings: schema.Settings, *, device: torch.device) -> None:
        self.agent, self.settings, self.device = agent, settings, device

    def test(self, epoch: int) -> tuple[list[PlayedEpisode], dict[str, float]]:
        """Return the games played after an epoch, and metrics by name."""
        config = self.settings.collection.test.config
        played = play_episodes(
            AgentPlayer(self.agent),
            self.settings.env.test,
            num_episodes=config.num_episodes or 0,
            num_envs=self.settings.collection.test.num_envs,
            temperature=config.temperature,
            epsilon=config.epsilon,
            should_sample=config.should_sample,
            seed=derived_seed(self.settings.common.seed, "test", epoch),
            parallel=self.settings.common.parallel_envs,
            keep_episodes=config.num_episodes or 0,
        )
        metrics = {
            "test_dataset/return": float(np.mean([episode.score for episode in played])),
            "test_dataset/length": float(np.mean([episode.length for episode in played])),
        }
        kept = played[
            -(self.settings.datasets.test.max_num_episodes or 0) :
        ]  # all of them, where there is no limit
        return played, metrics | self._losses(as_dataset(kept), epoch)

    @torch.no_grad()
    def _losses(self, dataset: ReplayBuffer, epoch: int) -> dict[str, float]:
        evaluation = self.settings.evaluation
        metrics: dict[str, float] = {}
        if epoch > evaluation.tokenizer.start_after_epochs:
            means = mean_terms(list(self._of_frames(dataset, evaluation.tokenizer.batch_num_samples)))
            metrics |= {f"tokenizer/eval/{term}": value for term, value in means.items()}
        if epoch > evaluation.world_model.start_after_epochs:
            means = mean_terms(list(self._of_segments(dataset, evaluation.world_model.batch_num_samples)))
            metrics |= {f"world_model/eval/{term}": value for term, value in means.items()}
        return metrics

    def _of_frames(self, dataset: ReplayBuffer, batch_size: int) -> Iterator[Terms]:
        """Yield the tokenizer's terms on every frame, in batches of one episode each."""
        tokenizer = self.agent.tokenizer
        num_frames = 1 + tokenizer.needs_previous
        for index, starts in _batches(dataset, 1, batch_size):
            batch = dataset.segments(index, starts + 1 - num_frames, num_frames).to(self.device)
            yield _with_total(tokenizer.loss(*frames_of(batch)))

    def _of_segments(self, dataset: ReplayBuffer, batch_size: int) -> Iterator[Terms]:
        """Yield the world model's terms on consecutive segments; the last one of an episode is padded."""
        length = self.settings.common.sequence_length
        for index, starts in _batches(dataset, length, batch_size):
            batch = dataset.segments(index, starts, length).to(self.device)
            yield _with_total(self.agent.world_model.loss(encoded(self.agent.tokenizer, batch)))


def _batches(
    dataset: ReplayBuffer, length: int, batch_size: int
) -> Iterator[tuple[Int64[np.ndarray, " batch"], Int64[np.ndarray, " batch"]]]:
    """Yield episode indices and starts of consecutive chunks. No batch mixes episodes."""
    for index, steps in enumerate(dataset.lengths):
        starts = np.arange(0, steps, length)
        for first in range(0, len(starts), batch_size):
            chosen = starts[first : first + batch_size]
            yield np.full(len(chosen), index), chosen


def as_dataset(played: list[PlayedEpisode]) -> ReplayBuffer:
    """Return the kept episodes of played games as a dataset."""
    episodes = [episode.episode for episode in played if episode.episode is not None]
    dataset = ReplayBuffer(sum(len(episode) for episode in episodes), episodes[0].observations.shape[1:])
    for episode in episodes:
        dataset.append(episode)
    return dataset


def sample_frames(played: list[PlayedEpisode], num_frames: int) -> UInt8[np.ndarray, "frames 3 height width"]:
    """Return evenly spaced frames of the kept episodes."""
    frames = np.concatenate(
        [episode.episode.observations for episode in played if episode.episode is not None]
    )
    chosen: np.ndarray = frames[np.linspace(0, len(frames) - 1, num_frames).astype(int)]
    return chosen


def _with_total(loss: Loss) -> Terms:
    return {**loss.terms, "total": loss.total}
