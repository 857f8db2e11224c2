"""IRIS's schedule: each epoch collects, updates tokenizer, world model and actor-critic, and sometimes evaluates.

Both doors, the stage `train_agent` and `src/main.py`, end here. The loop yields what happened; it knows nothing of logs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from irisflow import faults, interruption, schema
from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine, replayed_loop, with_shuffled_rewards
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.behaviour.returns import ReturnRange
from irisflow.data.collect import Collector, EpisodeResult
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.base import Environment
from irisflow.errors import DataError, EnvironmentFailure
from irisflow.evaluation.play import PlayedEpisode
from irisflow.initialization.weights import check_fit
from irisflow.progress import announce
from irisflow.randomness import numpy_stream, torch_stream
from irisflow.records import Loss
from irisflow.training.checkpoint import as_arrays, optimizer_state, restore_optimizer
from irisflow.training.encoded import EncodedReplay
from irisflow.training.losses import sample_rule, tokenizer_loss, world_model_loss
from irisflow.training.optim import optimizers
from irisflow.training.policy import AgentPolicy
from irisflow.training.testing import Tester, sample_frames
from irisflow.training.update import Component, Terms, stack_terms, unstack_terms
from irisflow.training.watch import Usage, watched

NUM_SHOWN_FRAMES = 8
COMPONENTS = ("tokenizer", "world_model", "actor_critic")
PHASES = ("collect", *COMPONENTS, "evaluate")


@dataclass
class EpochReport:
    """What one epoch did: numbers by name, what each phase took, and the episodes of its evaluation, if it had one."""

    epoch: int
    env_steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    played: list[PlayedEpisode] = field(default_factory=list)


@dataclass
class OpenEpoch:
    """An epoch that is not over: its report so far, the phases that are done, the terms of the present one's updates."""

    report: EpochReport
    num_phases: int = 0
    terms: list[Terms] = field(default_factory=list)

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps. Nothing was played yet: evaluation is the last phase."""
        report = {name: value for name, value in vars(self.report).items() if name != "played"}
        report["usage"] = {phase: vars(usage) for phase, usage in self.report.usage.items()}
        return {"report": report, "num_phases": self.num_phases, "terms": stack_terms(self.terms)}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> Self:
        """Return what `get_state` was called on."""
        terms = unstack_terms(state["terms"], device)
        usage = {phase: Usage(**found) for phase, found in state["report"]["usage"].items()}
        return cls(EpochReport(**{**state["report"], "usage": usage}), state["num_phases"], terms)


class Trainer:
    """One agent's training, from any update on."""

    def __init__(
        self, agent: Agent, environment: Environment, settings: schema.Settings, *, device: torch.device
    ) -> None:
        agent.tokenizer.load_losses()
        self.agent, self.settings, self.device = agent.to(device).eval(), settings, device
        if settings.training.tokenizer.trained == "decoder":
            agent.tokenizer.fix_tokens()
        seed = settings.common.seed
        self.epoch = self.env_steps = 0
        self.open: OpenEpoch | None = None  # the epoch of number `epoch`, unless it is over
        self.sample_rng = numpy_stream(seed, "sample")
        self.imagine_rng = torch_stream(seed, "imagine", device=device)
        self.replay = ReplayBuffer(
            _capacity(settings),
            (3, settings.env.train.size, settings.env.train.size),
            time_limit_is_end=settings.training.time_limit_is_end,
        )
        self.encoded_replay = EncodedReplay(
            self.replay,
            agent.tokenizer,
            device=device,
            max_kept_pictures=settings.training.actor_critic.max_kept_pictures,
        )
        collection = settings.collection.train.config
        self.policy = AgentPolicy(agent, collection, torch_stream(seed, "act", device=device), device=device)
        self.collector = Collector(
            environment,
            self.replay,
            burn_in=collection.burn_in,
            seed=int(numpy_stream(seed, "env").integers(2**31)),
        )
        self.return_range = ReturnRange(device)
        self.tester = Tester(agent, settings, device=device)
        self.test_frames = np.zeros((0, 3, settings.env.train.size, settings.env.train.size), np.uint8)
        self.components = self._components()

    def epochs(self) -> Iterator[EpochReport]:
        """Yield a report after each epoch that is still to do. Raises DivergedError for a loss that is not finite.

        A request to stop (`interruption`) raises Interrupted at a safe point, from where training can go on later.
        """
        while self.open is not None or self.epoch < self.settings.common.epochs:
            report = self._epoch()
            self.open = None
            yield report

    def _epoch(self) -> EpochReport:
        """Return the report of the present epoch after its phases that are still to do."""
        if self.open is None:
            self.epoch += 1
            self.open = OpenEpoch(EpochReport(self.epoch, self.env_steps))
        while self.open.num_phases < len(PHASES):
            self._do(PHASES[self.open.num_phases], self.open)
            self.open.num_phases, self.open.terms = self.open.num_phases + 1, []
            faults.point("epoch.phase")
        return self.open.report

    def _do(self, phase: str, epoch: OpenEpoch) -> None:
        announce(phase, epoch=self.epoch, num_epochs=self.settings.common.epochs)
        if phase == "collect":
            self._collect(epoch.report)
        elif phase == "evaluate":
            self._evaluate(epoch.report)
        else:
            self._train(phase, epoch)

    def get_state(self) -> dict[str, Any]:
        """Return all that decides how training goes on: weights, optimizers, random streams, environment, position.

        Of the replay buffer it has where episodes begin and end; the steps themselves are `replay.steps`.
        """
        return {
            "epoch": self.epoch,
            "env_steps": self.env_steps,
            "open": self.open.get_state() if self.open else None,
            "agent": dict(self.agent.state_dict()),
            "optimizers": {name: optimizer_state(part.optimizer) for name, part in self.components.items()},
            "num_updates": {name: part.num_updates for name, part in self.components.items()},
            "test_frames": self.test_frames,
            "replay": self.replay.get_state(),
            "collector": self.collector.get_state(),
            "policy": self.policy.get_state(),
            "return_range": self.return_range.get_state(),
            "sample_rng": self.sample_rng.bit_generator.state,
            "generators": {name: generator.get_state() for name, generator in self._generators().items()},
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def set_state(self, state: dict[str, Any], steps: Iterable[tuple[int, dict[str, np.ndarray]]]) -> None:
        """Go on exactly where `get_state` was called, on the same device and thread count.

        `steps` are the replay buffer's, in pieces. Raises DataError if they, or the environment's state, do not fit.
        """
        self.epoch, self.env_steps = state["epoch"], state["env_steps"]
        self.open = OpenEpoch.from_state(state["open"], self.device) if state["open"] else None
        self.agent.load_state_dict(state["agent"])
        for name, part in self.components.items():
            restore_optimizer(part.optimizer, state["optimizers"][name])
            part.num_updates = state["num_updates"][name]
        self.test_frames = as_arrays(state["test_frames"])
        self.replay.set_state(as_arrays(state["replay"]), steps)
        self.collector.set_state(as_arrays(state["collector"]))
        self.policy.set_state(state["policy"])
        self.return_range.set_state(state["return_range"])
        self.sample_rng.bit_generator.state = state["sample_rng"]
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise DataError if a state lacks a part, or holds weights of other names, shapes or types."""
        if lacking := self.get_state().keys() - state.keys():
            raise DataError(f"the checkpoint lacks {', '.join(sorted(lacking))}.")
        check_fit(self.agent.state_dict(), state["agent"], Path("the checkpoint"))

    @property
    def position(self) -> str:
        """Where training is, for people: after an epoch, or in which phase and at which update of one."""
        if self.open is None:
            return f"after epoch {self.epoch}"
        phase = PHASES[self.open.num_phases] if self.open.num_phases < len(PHASES) else "its end"
        done = f" after {len(self.open.terms)} updates" if self.open.terms else ""
        return f"in epoch {self.epoch}, {phase.replace('_', ' ')}{done}"

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
        built = optimizers(self.agent, training)
        losses = self._losses()
        return {
            name: Component(
                name.replace("_", " "),
                getattr(self.agent, name),
                built[name],
                losses[name],
                grad_acc_steps=getattr(training, name).grad_acc_steps,
                max_grad_norm=getattr(training, name).max_grad_norm,
                precision=self.settings.common.precision,
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
        control = self.settings.training.control
        num_drawn = (
            training.steps_per_epoch * training.grad_acc_steps * batch_size * length
        )  # frames an epoch
        sees_pictures = self.agent.actor_critic.sees == "pictures"
        weights: dict[str, Any] = {
            "gamma": training.gamma,
            "lambda_": training.lambda_,
            "entropy_weight": training.entropy_weight,
            "mask_after_end": training.mask_after_end,
        }
        return_range = self.return_range if training.normalise_returns else None
        sees_foreign_frames = control.frames == "foreign"
        loop = None
        if self.device.type == "cuda" and self.settings.common.cuda_graphs:
            loop = replayed_loop(self.agent, horizon=horizon, sees_foreign_frames=sees_foreign_frames)

        def loss() -> Loss:
            batch = self.encoded_replay.sample(
                batch_size,
                length,
                anchor="end",
                sample_by=sample_by,
                rng=self.sample_rng,
                has_pictures=sees_pictures and num_drawn >= self.replay.num_steps,
            )
            rollout = imagine(
                self.agent,
                batch,
                horizon=horizon,
                generator=self.imagine_rng,
                sees_foreign_frames=sees_foreign_frames,
                loop=loop,
            )
            if control.rewards == "shuffled":
                rollout = with_shuffled_rewards(rollout, generator=self.imagine_rng)
            return actor_critic_loss(rollout, return_range=return_range, **weights)

        return loss

    def _collect(self, report: EpochReport) -> None:
        collection = self.settings.collection.train
        if self._is_past(collection.stop_after_epochs):
            return
        num_steps = collection.config.num_steps or 0
        with watched(report.usage, "collect", self.device) as usage:
            what = f"epoch {self.epoch}/{self.settings.common.epochs} collect"
            results = self.collector.collect(self.policy, num_steps, what=what)
            usage.num_steps = num_steps
        self.env_steps += num_steps
        report.env_steps = self.env_steps
        report.metrics |= _collection_metrics(results, self.replay)

    def _is_past(self, last: int | None) -> bool:
        return last is not None and self.epoch > last

    def _train(self, name: str, epoch: OpenEpoch) -> None:
        part, schedule = self.components[name], getattr(self.settings.training, name)
        is_due = self._is_past(schedule.start_after_epochs) and not self._is_past(schedule.stop_after_epochs)
        if (
            not self.settings.training.should
            or not is_due
            or self._is_frozen(name)
            or not schedule.steps_per_epoch
        ):
            return
        with watched(epoch.report.usage, name, self.device) as usage:
            what = f"epoch {self.epoch}/{self.settings.common.epochs} {part.name}"
            means = part.train(schedule.steps_per_epoch, what=what, history=epoch.terms)
            usage.num_updates = schedule.steps_per_epoch
            usage.num_frames = schedule.steps_per_epoch * self._frames_per_update(name)
        epoch.report.metrics |= {f"{name}/train/{term}": value for term, value in means.items()}

    def _frames_per_update(self, name: str) -> int:
        """Return how many frames an update draws from the replay buffer; of the actor-critic's, how many it imagines."""
        training, length = self.settings.training, self.settings.common.sequence_length
        frames = {"world_model": length, "actor_critic": training.actor_critic.imagine_horizon}.get(name, 1)
        schedule = getattr(training, name)
        return int(schedule.grad_acc_steps * schedule.batch_num_samples * frames)

    def _is_frozen(self, name: str) -> bool:
        """Return whether a component stays as it was initialised."""
        training = self.settings.training
        is_untrained = name == "world_model" and training.control.world_model == "untrained"
        return is_untrained or (name != "actor_critic" and getattr(training, name).trained == "none")

    def _evaluate(self, report: EpochReport) -> None:
        """Play test games. A request to stop leaves this phase undone: it is played again from its start."""
        evaluation = self.settings.evaluation
        if evaluation.should and self.epoch % evaluation.every == 0:
            with watched(report.usage, "evaluate", self.device) as usage:
                report.played, metrics = self._tested()
                usage.num_steps = sum(episode.length for episode in report.played)
            report.metrics |= metrics
            self.test_frames = sample_frames(report.played, NUM_SHOWN_FRAMES)

    def _tested(self) -> tuple[list[PlayedEpisode], dict[str, float]]:
        try:
            return self.tester.test(self.epoch)
        except EnvironmentFailure:
            interruption.check()  # Ctrl-C in a terminal ends the games' processes too
            raise


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
