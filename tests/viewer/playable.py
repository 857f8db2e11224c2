"""Agents that can be played, made in a second: real files, untrained weights, and a world model that predicts no ends."""

from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from safetensors.torch import save

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.data.episodes import save_episodes
from irisflow.envs.make import make_environment
from irisflow.evaluation.play import AgentPlayer, play_episodes
from irisflow.records import Episode
from irisflow.storage import publish
from irisflow.viewer import play
from irisflow.viewer.arguments import add_arguments
from irisflow.viewer.show import Show

END_BIAS = 40.0


def whole_settings(*overrides: str, game: str = "Breakout"):
    return params.settings_from(["scale=smoke", f"env.train.id={game}", *overrides])


def untrained(*overrides: str, game: str = "Breakout") -> Agent:
    """An agent whose world model never predicts an end."""
    settings = whole_settings(*overrides, game=game)
    environment = make_environment(settings.env.test)
    torch.manual_seed(0)
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    environment.close()
    with torch.no_grad():
        agent.world_model.end_head[-1].bias.copy_(torch.tensor([END_BIAS, -END_BIAS]))
    return agent.eval()


def publish_agent(folder: Path, *overrides: str, game: str = "Breakout") -> Path:
    """Write an agent's artefact, as training does, and return its folder."""
    whole = whole_settings(*overrides, game=game)
    settings = params.stage_settings("train_agent", whole)
    weights = {
        name: value.contiguous() for name, value in untrained(*overrides, game=game).state_dict().items()
    }
    files = {"agent.safetensors": save(weights), "params.yaml": params.to_yaml(settings).encode()}
    about = {"scale": "smoke", "variant": "iris", "game": game, "seed": 0}
    publish(folder, files, kind="agent", digest="0" * 16, about=about)
    return folder


def run_folder(folder: Path, *, game: str = "Breakout", num_episodes: int = 2) -> Path:
    """Write a run folder as a run by hand leaves it, with saved episodes."""
    publish_agent(folder / "checkpoints" / "last", game=game)
    (folder / "config").mkdir()
    OmegaConf.save(whole_settings(game=game), folder / "config" / "trainer.yaml")
    if num_episodes:
        path = folder / "media" / "episodes" / "train" / "episode_0.safetensors.zst"
        save_episodes(path, episodes(game, num_episodes), metadata={"game": game})
    return folder


def episodes(game: str = "Catch", count: int = 2) -> list[Episode]:
    """Whole games of an untrained agent."""
    settings = whole_settings(game=game)
    settings.env.test.max_episode_steps = 200
    played = play_episodes(
        AgentPlayer(untrained(game=game)), settings.env.test, num_episodes=count, num_envs=1, temperature=1.0,
        epsilon=0.0, seed=0, keep_episodes=count,
    )  # fmt: skip
    return [one.episode for one in played if one.episode is not None]


def options(*arguments: str):
    """The command line of `irisflow play`, read."""
    from irisflow.cli import OneLineParser

    parser = OneLineParser(add_help=False)
    add_arguments(parser)
    return parser.parse_args(arguments)


def show(folder: Path, *arguments: str) -> Show:
    """What `irisflow play FOLDER ...` shows, without a window."""
    read = options(str(folder), *arguments)
    return play._show(read, play.open_run(read.run, checkpoint=read.checkpoint, media=read.media))


def press(one: Show, *names: str) -> None:
    for name in names:
        one.session.key_down(name)
        one.session.key_up(name)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())
