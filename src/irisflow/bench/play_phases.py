"""The phases beside the networks' training: sampling, games, collecting, evaluating, checkpoints, a whole epoch."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from irisflow.behaviour.agent import Agent
from irisflow.bench import traffic
from irisflow.bench.phases import Phase
from irisflow.bench.plain_environment import wrapped
from irisflow.bench.plain_replay import sample
from irisflow.bench.workload import GAME, SEED, Workload
from irisflow.envs.make import make_environment
from irisflow.envs.serial import Environments
from irisflow.envs.vector import make_environments
from irisflow.evaluation.play import AgentPlayer
from irisflow.training.checkpoint import Checkpoints
from irisflow.training.device import computing_context

SEGMENTS, LENGTH = 64, 20  # of a sampled batch: IRIS's for the world model
NUM_STEPS = 100  # in one environment
NUM_GAMES, NUM_TEST_STEPS = 8, 10  # of evaluation
NUM_FIRST_STEPS = 60  # of a game, in which random play of Breakout seldom loses all lives
STEP_BYTES = 8 + 4 + 1 + 1  # action, reward, end, mask of a sampled step
DIGEST = "0" * 16


@contextmanager
def sampling_frames(workload: Workload) -> Iterator[Phase]:
    """Segments of frames, as floats, out of 20,000 frames."""
    buffer, rng = workload.buffer, workload.rng("sample")
    frame = 3 * workload.settings.env.train.size**2
    yield Phase(
        lambda: buffer.sample(SEGMENTS, LENGTH, anchor="start", rng=rng),
        "frame",
        SEGMENTS * LENGTH,
        plain=lambda: sample(buffer, SEGMENTS, LENGTH, anchor="start", rng=rng),
        num_bytes=SEGMENTS * LENGTH * (frame + 4 * frame + 2 * STEP_BYTES),
        sizes={"batch": SEGMENTS, "frames": LENGTH, "buffer": buffer.num_steps},
    )


@contextmanager
def sampling_tokens(workload: Workload) -> Iterator[Phase]:
    """Segments as the world model is given them in training: tokens. Plainly, segments of frames."""
    replay, rng = workload.trainer.replay, workload.rng("sample")
    tokens = 8 * workload.agent.tokenizer.tokens_per_frame
    workload.encode_all()
    yield Phase(
        lambda: workload.batch(SEGMENTS, LENGTH, rng, anchor="start"),
        "frame",
        SEGMENTS * LENGTH,
        plain=lambda: sample(replay, SEGMENTS, LENGTH, anchor="start", rng=rng),
        num_bytes=2 * SEGMENTS * LENGTH * (tokens + STEP_BYTES),
        sizes={"batch": SEGMENTS, "frames": LENGTH, "buffer": replay.num_steps},
    )


@contextmanager
def environment(workload: Workload) -> Iterator[Phase]:
    """Steps of one training environment in this process; plainly, of a stack of gymnasium's wrappers."""
    settings = workload.settings.env.train
    fast, slow = _Game(make_environment(settings)), _Game(wrapped(GAME, settings))
    yield Phase(lambda: fast.play(NUM_STEPS), "step", NUM_STEPS, plain=lambda: slow.play(NUM_STEPS))
    fast.environment.close()
    slow.environment.close()


@contextmanager
def environment_processes(workload: Workload) -> Iterator[Phase]:
    """Steps of 8 test environments in a process on each core; plainly, of one stack of wrappers, as many.

    All games start anew before each run, so that hardly any ends in it: a restart with a seed loads the cartridge again,
    which takes as long as hundreds of steps, in both ways.
    """
    num = NUM_GAMES
    settings = workload.settings.env.test
    fast, slow = _Games(make_environments(settings, num, parallel=True)), _Game(wrapped(GAME, settings))

    def start() -> None:
        fast.start()
        slow.environment.reset(seed=SEED)

    try:
        yield Phase(
            lambda: fast.play_randomly(NUM_FIRST_STEPS),
            "step",
            num * NUM_FIRST_STEPS,
            plain=lambda: slow.play(num * NUM_FIRST_STEPS),
            sizes={"environments": num, "processes": min(num, num_cores())},
            before=start,
        )
    finally:
        fast.environments.close()
        slow.environment.close()


@contextmanager
def collection(workload: Workload) -> Iterator[Phase]:
    """Steps of the agent in one environment, into the replay buffer."""
    trainer = workload.trainer
    num_steps = workload.settings.collection.train.config.num_steps or NUM_STEPS
    num_steps = min(num_steps, NUM_STEPS)
    yield Phase(lambda: trainer.collector.collect(trainer.policy, num_steps), "step", num_steps)


@contextmanager
def evaluation(workload: Workload) -> Iterator[Phase]:
    """Steps of the agent in 8 test games at once; plainly, in one game after the other."""
    settings, is_parallel = workload.settings.env.test, workload.settings.common.parallel_envs
    fast = _Games(make_environments(settings, NUM_GAMES, parallel=is_parallel), workload.agent)
    slow = [
        _Games(make_environments(settings, 1, parallel=False), workload.plain_agent) for _ in range(NUM_GAMES)
    ]
    try:
        yield Phase(
            lambda: fast.play_by_policy(NUM_TEST_STEPS),
            "step",
            NUM_GAMES * NUM_TEST_STEPS,
            plain=lambda: play_in_turn(slow, NUM_TEST_STEPS),
            sizes={"games": NUM_GAMES},
        )
    finally:
        for games in (fast, *slow):
            games.environments.close()


@contextmanager
def checkpoint(workload: Workload) -> Iterator[Phase]:
    """Saving all that a run goes on from, after the first time, which also writes the replay buffer."""
    trainer = workload.trainer
    num_bytes = sum(tensor.nbytes for tensor in traffic.tensors_in(trainer.get_state()))
    with tempfile.TemporaryDirectory(prefix="irisflow-bench-") as folder:
        checkpoints = Checkpoints(Path(folder), digest=DIGEST, context=computing_context(workload.device))
        yield Phase(
            lambda: checkpoints.save(trainer.get_state(), about={}, steps=trainer.replay),
            "checkpoint",
            1,
            num_bytes=2 * num_bytes,
        )


@contextmanager
def epoch(workload: Workload) -> Iterator[Phase]:
    """One epoch of the trainer in which all three parts are due, without its test games."""
    counted = _nothing if workload.is_replayed else None  # in a recording no operator can be seen
    yield Phase(lambda: next(workload.trainer.epochs()), "epoch", 1, counted=counted)


def _nothing() -> None:
    """Do nothing."""


def play_in_turn(games: Sequence["_Games"], num_steps: int) -> None:
    """Let the agent play one after the other."""
    for game in games:
        game.play_by_policy(num_steps)


def num_cores() -> int:
    """Return how many processors this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Game:
    """One environment, played at random."""

    def __init__(self, environment: "gymnasium.Env[Any, Any]") -> None:
        self.environment, self.rng = environment, np.random.default_rng(SEED)
        self.actions: Any = environment.action_space
        self.environment.reset(seed=SEED)

    def play(self, num_steps: int) -> None:
        """Make so many steps; an episode that ends is followed by the next."""
        for _ in range(num_steps):
            _, _, terminated, truncated, _ = self.environment.step(int(self.rng.integers(self.actions.n)))
            if terminated or truncated:
                self.environment.reset()


class _Games:
    """Environments that step together, played at random or by an agent."""

    def __init__(self, environments: Environments, agent: Agent | None = None) -> None:
        self.environments, self.rng = environments, np.random.default_rng(SEED)
        self.num = environments.num_envs
        self.start()
        if agent is not None:
            self.player = AgentPlayer(agent)
            self.player.begin(self.num)

    def start(self) -> None:
        """Start all games anew."""
        self.observations = self.environments.reset([SEED + index for index in range(self.num)])

    def play_randomly(self, num_steps: int) -> None:
        """Make so many steps in each."""
        for _ in range(num_steps):
            self._step(self.rng.integers(self.environments.num_actions, size=self.num))

    def play_by_policy(self, num_steps: int) -> None:
        """Make so many steps in each with actions drawn from the agent's policy."""
        for _ in range(num_steps):
            logits = self.player.logits(self.observations)
            ended = self._step((logits + self.rng.gumbel(size=logits.shape)).argmax(axis=-1))
            if ended.any():
                self.player.restart(ended)

    def _step(self, actions: np.ndarray) -> np.ndarray:
        step = self.environments.step(actions)
        ended: np.ndarray = step.terminated | step.truncated
        self.observations = step.observations
        if ended.any():
            seeds = [int(self.rng.integers(2**31)) if has_ended else None for has_ended in ended]
            self.observations = self.environments.reset(seeds)
        return ended
