"""IRIS's schedule: each epoch collects, updates tokenizer, world model and actor-critic, and sometimes evaluates.

Both doors, the stage `train_agent` and `src/main.py`, end here. The loop yields what happened; it knows nothing of logs.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from irisflow import schema
from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.data.collect import Collector, EpisodeResult
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.base import Environment
from irisflow.evaluation.play import PlayedEpisode
from irisflow.randomness import numpy_stream, torch_stream
from irisflow.records import Loss
from irisflow.training.checkpoint import as_arrays, optimizer_state, restore_optimizer
from irisflow.training.encoded import EncodedReplay
from irisflow.training.losses import sample_rule, tokenizer_loss, world_model_loss
from irisflow.training.optim import optimizers
from irisflow.training.policy import AgentPolicy
from irisflow.training.testing import Tester, sample_frames
from irisflow.training.update import Component

NUM_SHOWN_FRAMES = 8
COMPONENTS = ("tokenizer", "world_model", "actor_critic")


@dataclass
class EpochReport:
    """What one epoch did: numbers by name, seconds by phase, and the episodes of its evaluation, if it had one."""

    epoch: int
    env_steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    played: list[PlayedEpisode] = field(default_factory=list)


class Trainer:
    """One agent's training, from any epoch on."""

    def __init__(
        self, agent: Agent, environment: Environment, settings: schema.Settings, *, device: torch.device
    ) -> None:
        self.agent, self.settings, self.device = agent.to(device).eval(), settings, device
        seed = settings.common.seed
        self.epoch = self.env_steps = 0
        self.sample_rng = numpy_stream(seed, "sample")
        self.imagine_rng = torch_stream(seed, "imagine", device=device)
        self.replay = ReplayBuffer(
            _capacity(settings),
            (3, settings.env.train.size, settings.env.train.size),
            time_limit_is_end=settings.training.time_limit_is_end,
        )
        self.encoded_replay = EncodedReplay(self.replay, agent.tokenizer, device=device)
        collection = settings.collection.train.config
        self.policy = AgentPolicy(agent, collection, torch_stream(seed, "act", device=device), device=device)
        self.collector = Collector(
            environment,
            self.replay,
            burn_in=collection.burn_in,
            seed=int(numpy_stream(seed, "env").integers(2**31)),
        )
        self.tester = Tester(agent, settings, device=device)
        self.test_frames = np.zeros((0, 3, settings.env.train.size, settings.env.train.size), np.uint8)
        self.components = self._components()

    def epochs(self) -> Iterator[EpochReport]:
        """Yield a report after each epoch that is still to do. Raises DivergedError for a loss that is not finite."""
        while self.epoch < self.settings.common.epochs:
            self.epoch += 1
            report = EpochReport(self.epoch, self.env_steps)
            self._collect(report)
            self._train(report)
            self._evaluate(report)
            yield report

    def get_state(self) -> dict[str, Any]:
        """Return all that decides how training goes on: weights, optimizers, random streams, replay, environment."""
        return {
            "epoch": self.epoch,
            "env_steps": self.env_steps,
            "agent": dict(self.agent.state_dict()),
            "optimizers": {name: optimizer_state(part.optimizer) for name, part in self.components.items()},
            "num_updates": {name: part.num_updates for name, part in self.components.items()},
            "test_frames": self.test_frames,
            "replay": self.replay.get_state(),
            "collector": self.collector.get_state(),
            "sample_rng": self.sample_rng.bit_generator.state,
            "generators": {name: generator.get_state() for name, generator in self._generators().items()},
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where `get_state` was called, on the same device and thread count."""
        self.epoch, self.env_steps = state["epoch"], state["env_steps"]
        self.agent.load_state_dict(state["agent"])
        for name, part in self.components.items():
            restore_optimizer(part.optimizer, state["optimizers"][name])
            part.num_updates = state["num_updates"][name]
        self.test_frames = as_arrays(state["test_frames"])
        self.replay.set_state(as_arrays(state["replay"]))
        self.collector.set_state(as_arrays(state["collector"]))
        self.sample_rng.bit_generator.state = state["sample_rng"]
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    @property
    def num_updates(self) -> dict[str, int]:
        """Updates of each component so far."""
        return {name: part.num_updates for name, part in self.components.items()}

    @torch.no_grad()
    def reconstructions(self) -> dict[str, np.ndarray]:
        """Return `originals`, frames of the last test games, and `reconstructions`: uint8 (frames, 3, size, size)."""
        frames = torch.from_numpy(self.test_frames).to(self.device).float() / 255
        images = (self.agent.tokenizer.reconstruct(frames) * 255).round().byte().cpu().numpy()
        return {"originals": self.test_frames, "reconstructions": images}

    def _generators(self) -> dict[str, torch.Generator]:
        return {"imagine": self.imagine_rng, "act": self.policy.generator}

    def _components(self) -> dict[str, Component]:
        training = self.settings.training
        built = optimizers(
            self.agent, learning_rate=training.learning_rate, weight_decay=training.world_model.weight_decay
        )
        losses = self._losses()
        return {
            name: Component(
                name.replace("_", " "),
                getattr(self.agent, name),
                built[name],
                losses[name],
                grad_acc_steps=getattr(training, name).grad_acc_steps,
                max_grad_norm=getattr(training, name).max_grad_norm,
            )
            for name in COMPONENTS
        }

    def _losses(self) -> dict[str, Callable[[], Loss]]:
        training = self.settings.training
        agent, sources = self.agent, (self.replay, self.sample_rng, self.device)
        return {
            "tokenizer": tokenizer_loss(
                agent.tokenizer,
                *sources,
                batch_size=training.tokenizer.batch_num_samples,
                sample_by=sample_rule(training),
            ),
            "world_model": world_model_loss(
                agent.world_model,
                self.encoded_replay,
                self.sample_rng,
                batch_size=training.world_model.batch_num_samples,
                length=self.settings.common.sequence_length,
                sample_by=sample_rule(training),
            ),
            "actor_critic": self._actor_critic_loss(),
        }

    def _actor_critic_loss(self) -> Callable[[], Loss]:
        training = self.settings.training.actor_critic
        batch_size, length = training.batch_num_samples, training.burn_in + 1
        horizon, sample_by = training.imagine_horizon, sample_rule(self.settings.training)
        weights = {
            "gamma": training.gamma,
            "lambda_": training.lambda_,
            "entropy_weight": training.entropy_weight,
        }

        def loss() -> Loss:
            batch = self.encoded_replay.sample(
                batch_size, length, anchor="end", sample_by=sample_by, rng=self.sample_rng
            )
            rollout = imagine(self.agent, batch, horizon=horizon, generator=self.imagine_rng)
            return actor_critic_loss(rollout, **weights)

        return loss

    def _collect(self, report: EpochReport) -> None:
        collection = self.settings.collection.train
        if collection.stop_after_epochs is not None and self.epoch > collection.stop_after_epochs:
            return
        num_steps = collection.config.num_steps or 0
        with _timed(report, "collect"):
            results = self.collector.collect(self.policy, num_steps)
        self.env_steps += num_steps
        report.env_steps = self.env_steps
        report.metrics |= _collection_metrics(results, self.replay)

    def _train(self, report: EpochReport) -> None:
        if not self.settings.training.should:
            return
        for name, part in self.components.items():
            schedule = getattr(self.settings.training, name)
            if self.epoch > schedule.start_after_epochs and schedule.steps_per_epoch:
                with _timed(report, name):
                    means = part.train(
                        schedule.steps_per_epoch,
                        what=f"epoch {self.epoch}/{self.settings.common.epochs} {part.name}",
                    )
                report.metrics |= {f"{name}/train/{term}": value for term, value in means.items()}

    def _evaluate(self, report: EpochReport) -> None:
        evaluation = self.settings.evaluation
        if evaluation.should and self.epoch % evaluation.every == 0:
            with _timed(report, "evaluate"):
                report.played, metrics = self.tester.test(self.epoch)
            report.metrics |= metrics
            self.test_frames = sample_frames(report.played, NUM_SHOWN_FRAMES)


class _timed:  # noqa: N801
    """Adds the seconds that a block took to a report."""

    def __init__(self, report: EpochReport, phase: str) -> None:
        self.report, self.phase = report, phase

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.report.seconds[self.phase] = time.monotonic() - self.start


def _capacity(settings: schema.Settings) -> int:
    """Return how many steps the buffer may hold: all that will be collected, unless `max_ram_usage` says less."""
    stop = settings.collection.train.stop_after_epochs or settings.common.epochs
    planned = min(stop, settings.common.epochs) * (settings.collection.train.config.num_steps or 0)
    limit = settings.datasets.train.max_ram_usage
    frame_bytes = 3 * settings.env.train.size**2
    return max(1, planned if limit is None else min(planned, schema.num_bytes(limit) // frame_bytes))


def _collection_metrics(results: list[EpisodeResult], replay: ReplayBuffer) -> dict[str, float]:
    metrics = {
        "train_dataset/num_steps": float(replay.num_steps),
        "train_dataset/num_episodes": float(replay.num_episodes),
        "train_dataset/finished_episodes": float(len(results)),
    }
    if results:
        metrics["train_dataset/return"] = float(np.mean([result.score for result in results]))
        metrics["train_dataset/length"] = float(np.mean([result.length for result in results]))
    games = [result.game_score for result in results if result.game_score is not None]
    return metrics | ({"train_dataset/game_return": float(np.mean(games))} if games else {})
