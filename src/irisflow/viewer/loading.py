"""Builds what is played: the agent with its weights, the game, the world model, the saved episodes."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from irisflow import games, schema
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.data.episodes import load_episodes
from irisflow.envs.base import Environment
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DataError
from irisflow.identity import open_own
from irisflow.initialization.weights import load_weights
from irisflow.randomness import numpy_stream, torch_stream
from irisflow.records import Episode
from irisflow.viewer.imagination import Imagination
from irisflow.viewer.mind import Mind, drawn
from irisflow.viewer.runs import Run, untouched
from irisflow.viewer.sources import Context, ImaginedEnvironment, RealEnvironment, SavedEpisodes

MOST_STEPS_BEFORE_START = 40


class Loaded:
    """A run's agent on a device, and the sources that it can be watched in."""

    def __init__(self, run: Run, *, game: str | None, device: torch.device, seed: int) -> None:
        settings = run.settings
        if game is not None:
            settings.env.test.id = settings.env.train.id = game
        self._run, self._settings, self._seed = run, settings, seed
        self.environment = make_environment(settings.env.test)
        _check_actions(run, self.environment)
        self.agent = agent_of(run, settings, self.environment).to(device)
        self.game = games.game_of(settings.env.test.id)

    def real(self) -> RealEnvironment:
        """Return the game; the world model listens."""
        mind = Mind(self.agent)
        return RealEnvironment(
            self.environment, mind, seed=self._seed, imagination=self._imagination("expectations")
        )

    def imagined(self) -> ImaginedEnvironment:
        """Return the world model, started from frames that the agent plays to in a second game."""
        return ImaginedEnvironment(Mind(self.agent), self._imagination("imagination"), self._starts())

    def saved(self, file: Path | None = None) -> SavedEpisodes:
        """Return the saved episodes. Raises DataError if there are none or the first file is damaged."""
        files = [file] if file is not None else self._run.episode_files()
        if not files:
            raise DataError(
                f"{self._run.folder} has no saved episodes (media/episodes/ or media/recordings/)."
                " Play with -s to save some, or name a file with --episode-file."
            )
        labels, load = episode_index(files, size=self._settings.env.test.size)
        return SavedEpisodes(Mind(self.agent), labels, load)

    def _imagination(self, name: str) -> Imagination:
        device = next(self.agent.parameters()).device
        return Imagination(
            self.agent.world_model,
            generator=torch_stream(self._seed, "viewer", name, device=device),
            max_blocks=self._settings.world_model.max_blocks,
        )

    def _starts(self) -> Callable[[], Context]:
        """Return what plays a game of its own for a few steps and hands out the newest frames of it."""
        source = RealEnvironment(
            make_environment(self._settings.env.test), Mind(self.agent), seed=self._seed + 1
        )
        rng = numpy_stream(self._seed, "viewer", "starts")

        def start() -> Context:
            moment = source.reset()
            for _ in range(int(rng.integers(1, MOST_STEPS_BEFORE_START))):
                assert moment.thought is not None
                moment = source.step(drawn(moment.thought, temperature=1.0, rng=rng))
                moment = source.reset() if moment.is_over else moment
            return source.context()

        return start


def agent_of(run: Run, settings: schema.Settings, environment: Environment) -> Agent:
    """Return the agent with its weights. Raises DataError if they are damaged or do not fit."""
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    with untouched():
        load_weights(agent, run.agent, kind="agent")
    return agent.eval()


def episode_index(files: list[Path], *, size: int) -> tuple[list[str], Callable[[int], Episode]]:
    """Return a label for each saved episode, and what loads one by its number; one file is in memory at a time.

    How many a file holds is known when it was read: files are read once at the start, and again when they are turned to.
    Raises DataError, naming the file, for one that is damaged or whose frames have another size.
    """
    places = [(path, index) for path in files for index in range(len(_episodes(path, size)))]
    labels = [_label(path, index) for path, index in places]

    def load(number: int) -> Episode:
        path, index = places[number]
        return _episodes(path, size)[index]

    return labels, load


@lru_cache(maxsize=1)
def _episodes(path: Path, size: int) -> list[Episode]:
    with untouched():
        episodes, _ = load_episodes(path)
    frame = episodes[0].observations.shape[1:]
    if frame != (3, size, size):
        raise DataError(
            f"{path}: its frames are {tuple(frame)}; this agent sees {(3, size, size)}. Give episodes of its own game."
        )
    return [
        Episode(**{name: np.asarray(getattr(one, name)) for name in one.__dataclass_fields__})
        for one in episodes
    ]


def _label(path: Path, index: int) -> str:
    where = path.parent.name if path.parent.name in ("train", "test", "imagination", "recordings") else ""
    return f"{where + '/' if where else ''}{path.name.removesuffix('.safetensors.zst')} no. {index + 1}"


def _check_actions(run: Run, environment: Environment) -> None:
    """Raise ConfigError if the agent was trained for another number of actions than the game has."""
    own, trained = environment.num_actions, _trained_actions(run)
    if trained is not None and own != trained:
        environment.close()
        raise ConfigError(
            f"{run.agent} holds an agent of {run.about.get('game')} with {trained} actions;"
            f" {run.settings.env.test.id} has {own}. Play it in its own game, or name an agent of that game."
        )


def _trained_actions(run: Run) -> int | None:
    """Return how many actions the policy's weights are for, None where they do not say."""
    with untouched():
        data = open_own(run.agent, kind="agent").read("agent.safetensors")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return int(header["actor_critic.actor.weight"]["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return None
