"""Evaluation while training: full test games, then the models' losses on what was seen there (IRIS's protocol)."""

import numpy as np
import torch
from jaxtyping import UInt8

from irisflow import schema
from irisflow.behaviour.agent import Agent
from irisflow.data.replay import ReplayBuffer
from irisflow.evaluation.play import AgentPlayer, PlayedEpisode, play_episodes
from irisflow.randomness import derived_seed
from irisflow.records import Loss
from irisflow.training.losses import encoded
from irisflow.training.update import mean_terms


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
            seed=derived_seed(self.settings.common.seed, "test", epoch),
            parallel=self.settings.common.parallel_envs,
            keep_episodes=config.num_episodes or 0,
        )
        metrics = {
            "test_dataset/return": float(np.mean([episode.score for episode in played])),
            "test_dataset/length": float(np.mean([episode.length for episode in played])),
        }
        return played, metrics | self._losses(as_dataset(played), epoch)

    @torch.no_grad()
    def _losses(self, dataset: ReplayBuffer, epoch: int) -> dict[str, float]:
        evaluation = self.settings.evaluation
        metrics: dict[str, float] = {}
        if epoch > evaluation.tokenizer.start_after_epochs:
            means = self._mean(dataset, evaluation.tokenizer.batch_num_samples, 1)
            metrics |= {f"tokenizer/eval/{term}": value for term, value in means.items()}
        if epoch > evaluation.world_model.start_after_epochs:
            length = self.settings.common.sequence_length
            means = self._mean(dataset, evaluation.world_model.batch_num_samples, length)
            metrics |= {f"world_model/eval/{term}": value for term, value in means.items()}
        return metrics

    def _mean(self, dataset: ReplayBuffer, batch_size: int, length: int) -> dict[str, float]:
        """Return the unweighted mean over batches of consecutive chunks.

        No batch mixes episodes; the last chunk of an episode is padded.
        """
        history = []
        for index, steps in enumerate(dataset.lengths):
            starts = np.arange(0, steps, length)
            for first in range(0, len(starts), batch_size):
                chosen = starts[first : first + batch_size]
                batch = dataset.segments(np.full(len(chosen), index), chosen, length).to(self.device)
                loss = (
                    self.agent.tokenizer.loss(batch.observations)
                    if length == 1
                    else self.agent.world_model.loss(encoded(self.agent.tokenizer, batch))
                )
                history.append(_with_total(loss))
        return mean_terms(history)


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


def _with_total(loss: Loss) -> dict[str, torch.Tensor]:
    return {**loss.terms, "total": loss.total}
