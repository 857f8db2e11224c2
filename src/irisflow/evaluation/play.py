"""Full games by an agent, several at once, none of them cut short because others have finished."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8

from irisflow import faults, interruption
from irisflow.behaviour.actor_critics.base import PolicyState
from irisflow.behaviour.agent import Agent
from irisflow.envs.serial import Environments, VectorStep
from irisflow.envs.vector import make_environments
from irisflow.progress import progress
from irisflow.randomness import derived_seed, numpy_stream
from irisflow.records import Episode
from irisflow.schema import Env


@runtime_checkable
class Player(Protocol):
    """Scores the actions in several games at once. Rows are games in play; each has its own memory."""

    def begin(self, num_rows: int) -> None:
        """Start with so many rows, each without memory."""

    def select(self, rows: Int64[np.ndarray, " kept"]) -> None:
        """Go on with these rows only."""

    def restart(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Forget what the chosen rows remember: a new game starts there."""

    def logits(
        self, observations: UInt8[np.ndarray, "rows 3 height width"]
    ) -> Float[np.ndarray, "rows actions"]:
        """Return the unnormalised log-probabilities of each row's actions."""


class AgentPlayer:
    """An agent in evaluation mode; it sees observations as IRIS's policy does, through the tokenizer."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent.eval()
        self._device = next(agent.parameters()).device
        self._state: PolicyState

    def begin(self, num_rows: int) -> None:
        """Start with zero recurrent states."""
        self._state = self._agent.actor_critic.initial_state(num_rows)

    def select(self, rows: Int64[np.ndarray, " kept"]) -> None:
        """Keep the recurrent states of these rows."""
        kept = torch.from_numpy(rows).to(self._device)
        self._state = PolicyState(self._state.hidden[kept], self._state.cell[kept])

    def restart(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Set the recurrent states of these rows to their initial value."""
        chosen = torch.from_numpy(rows).to(self._device)[:, None]
        fresh = self._agent.actor_critic.initial_state(len(rows))
        self._state = PolicyState(
            torch.where(chosen, fresh.hidden, self._state.hidden),
            torch.where(chosen, fresh.cell, self._state.cell),
        )

    @torch.no_grad()
    def logits(
        self, observations: UInt8[np.ndarray, "rows 3 height width"]
    ) -> Float[np.ndarray, "rows actions"]:
        """Return the policy's logits and advance the recurrent states."""
        frames = torch.from_numpy(observations).to(self._device)
        output, self._state = self._agent.actor_critic(self._agent.seen(frames), self._state)
        return np.asarray(output.logits.double().cpu().numpy())


@dataclass(frozen=True)
class PlayedEpisode:
    """One full game: raw undiscounted score, length in agent steps, emulator frames with the no-ops."""

    score: float
    length: int
    frames: int
    terminated: bool
    truncated: bool
    seed: int
    episode: Episode | None


@dataclass
class _Game:
    """A game in play."""

    index: int
    seed: int
    rng: np.random.Generator
    is_kept: bool
    score: float = 0.0
    length: int = 0
    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


def play_episodes(
    player: Player,
    settings: Env,
    *,
    num_episodes: int,
    num_envs: int,
    temperature: float,
    epsilon: float,
    seed: int,
    parallel: bool = False,
    keep_episodes: int = 0,
    should_sample: bool = True,
) -> list[PlayedEpisode]:
    """Return `num_episodes` full games in order, the first `keep_episodes` of them with their steps.

    Actions are drawn from the logits divided by `temperature`, uniformly with probability `epsilon`;
    unless `should_sample` the likeliest one is taken instead of drawing from the logits. Game i
    has its own seed and its own random actions, which depend on `seed` and i only: `num_envs` and `parallel`
    change speed, not results (beyond the rounding of batched arithmetic). A free environment takes the next
    game that has not started, and all games are played to their end, so that short ones are not favoured.
    """
    environments = make_environments(settings, min(num_envs, num_episodes), parallel=parallel)
    queue = deque(_Game(i, *_streams(seed, i), is_kept=i < keep_episodes) for i in range(num_episodes))
    try:
        games = _play(player, environments, queue, temperature if should_sample else None, epsilon)
        played = dict(progress(games, what="playing", unit="episode", total=num_episodes))
    finally:
        environments.close()
    return [played[index] for index in range(num_episodes)]


def _streams(seed: int, index: int) -> tuple[int, np.random.Generator]:
    """Return the environment's seed and the generator of the actions of one game."""
    return derived_seed(seed, "game", index), numpy_stream(seed, "actions", index)


def _play(
    player: Player,
    environments: Environments,
    queue: deque[_Game],
    temperature: float | None,
    epsilon: float,
) -> Iterator[tuple[int, PlayedEpisode]]:
    """Yield the index and the result of each game as it ends."""
    in_play: dict[int, _Game] = {env: queue.popleft() for env in range(environments.num_envs)}
    observations = _start(environments, in_play)
    player.begin(len(in_play))
    while in_play:
        faults.point("play.step")
        interruption.check()
        rows = list(in_play)
        logits = player.logits(observations[rows])
        actions = np.zeros(environments.num_envs, np.int64)
        for env, row in zip(rows, logits, strict=True):
            actions[env] = _draw(row, temperature, epsilon, in_play[env].rng)
            _record(in_play[env], observations[env], int(actions[env]))
        step = environments.step(actions)
        observations = step.observations
        ended = [env for env in rows if step.terminated[env] or step.truncated[env]]
        for env in rows:
            _reward(in_play[env], float(step.rewards[env]))
        for env in ended:
            yield in_play[env].index, _result(in_play[env], step, env)
        if ended:
            started = {env: queue.popleft() for env in ended if queue}
            in_play = {
                env: started.get(env, in_play[env]) for env in rows if env in started or env not in ended
            }
            player.select(np.array([row for row, env in enumerate(rows) if env in in_play], np.int64))
            player.restart(np.array([env in started for env in in_play], np.bool_))
            observations = _start(environments, started) if started else observations


def _start(environments: Environments, games: dict[int, _Game]) -> UInt8[np.ndarray, "envs 3 height width"]:
    """Return all observations after starting these games."""
    seeds = [games[env].seed if env in games else None for env in range(environments.num_envs)]
    return environments.reset(seeds)


def _draw(
    logits: Float[np.ndarray, " actions"], temperature: float | None, epsilon: float, rng: np.random.Generator
) -> int:
    """Return an action drawn by the Gumbel-max rule; without a temperature the likeliest one."""
    noise = rng.gumbel(size=len(logits))
    if epsilon and rng.random() < epsilon:
        return int(rng.integers(len(logits)))
    return int(np.argmax(logits if temperature is None else logits / temperature + noise))


def _record(game: _Game, observation: UInt8[np.ndarray, "3 height width"], action: int) -> None:
    game.length += 1
    if game.is_kept:
        game.observations.append(observation.copy())
        game.actions.append(action)


def _reward(game: _Game, reward: float) -> None:
    game.score += reward
    if game.is_kept:
        game.rewards.append(reward)


def _result(game: _Game, step: VectorStep, env: int) -> PlayedEpisode:
    terminated, truncated = bool(step.terminated[env]), bool(step.truncated[env])
    return PlayedEpisode(
        game.score,
        game.length,
        int(step.frames[env]),
        terminated,
        truncated,
        game.seed,
        _episode(game, terminated, truncated) if game.is_kept else None,
    )


def _episode(game: _Game, terminated: bool, truncated: bool) -> Episode:
    is_last = np.arange(game.length) == game.length - 1
    return Episode(
        np.stack(game.observations),
        np.array(game.actions, np.int64),
        np.array(game.rewards, np.float32),
        is_last & terminated,
        is_last & truncated,
    )
