"""From an environment's settings to the environment."""

from importlib import import_module

import gymnasium

from irisflow import games
from irisflow.envs.atari import AtariEnvironment, cartridge_md5, has_game
from irisflow.envs.base import Environment
from irisflow.envs.pixels import PixelEnvironment
from irisflow.envs.toy import Catch
from irisflow.errors import ConfigError, nearest
from irisflow.schema import Env


def make_environment(settings: Env) -> Environment:
    """Return the environment that the settings describe.

    Every id of an Atari game (`Pong`, `PongNoFrameskip-v4`, `ALE/Pong-v5`) means IRIS's preprocessing of that
    game without sticky actions. Raises ConfigError for an unknown id or one without discrete actions, and
    EnvironmentFailure for one without pictures.
    """
    if settings.id == "Catch":
        return Catch(size=settings.size)
    game = atari_game(settings.id)
    if game is None:
        return PixelEnvironment(
            _registered(settings.id),
            size=settings.size,
            max_episode_steps=settings.max_episode_steps,
            frame_skip=settings.frame_skip,
        )
    return AtariEnvironment(
        game,
        size=settings.size,
        max_episode_steps=settings.max_episode_steps,
        noop_max=settings.noop_max,
        frame_skip=settings.frame_skip,
        done_on_life_loss=settings.done_on_life_loss,
        clip_reward=settings.clip_reward,
    )


def cartridges(settings: Env) -> dict[str, str]:
    """Return game -> md5 of its cartridge, for provenance; empty for what is no Atari game."""
    game = atari_game(settings.id)
    return {} if game is None else {game: cartridge_md5(game)}


def atari_game(env_id: str) -> str | None:
    """Return the emulator's name of the game that an id means, or None if it is no Atari id."""
    if env_id in games.ATARI_100K:
        return env_id
    match = games.ATARI_ID.fullmatch(env_id)
    registered = env_id.replace("Deterministic", "NoFrameskip")  # the old form is registered no more
    is_atari = match is not None and registered in gymnasium.registry and has_game(match[1])
    return match[1] if match is not None and is_atari else None


def _registered(env_id: str) -> str:
    """Return the id if gymnasium knows it, else raise ConfigError with the names that resemble it.

    `module:Name-v0` imports the module first, which registers its environments.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
        gymnasium.spec(name)
    except (ImportError, TypeError) as error:  # TypeError: a relative module
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"env.train.id: the module of {env_id!r} cannot be imported ({reason}). Allowed: one that is installed or on"
            " PYTHONPATH."
        ) from None
    except gymnasium.error.Error:
        known = (*games.known_games(), *gymnasium.registry)
        raise ConfigError(
            f"env.train.id: game {env_id!r} does not exist{nearest(env_id, known)}."
            " Allowed: a game that `irisflow list` prints, or an id that gymnasium has registered."
        ) from None
    return env_id
