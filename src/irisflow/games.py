"""The games that a study can name, what their gymnasium ids have in common, and the games of a corpus."""

import re
from collections.abc import Sequence

from irisflow.errors import ConfigError, nearest

ATARI_100K = (
    "Alien", "Amidar", "Assault", "Asterix", "BankHeist", "BattleZone", "Boxing", "Breakout", "ChopperCommand",
    "CrazyClimber", "DemonAttack", "Freeway", "Frostbite", "Gopher", "Hero", "Jamesbond", "Kangaroo", "Krull",
    "KungFuMaster", "MsPacman", "Pong", "PrivateEye", "Qbert", "RoadRunner", "Seaquest", "UpNDown",
)  # fmt: skip
TOY = ("Catch",)
ANY = "any"  # stands where a game would for what is the same for all games; no game has this name
# Actions of the Arcade Learning Environment, in its order: the full set, of which most games use a part (the enum
# Action of ale_py; Bellemare et al. 2013, section 2.2).
FULL_ACTIONS = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT",
    "UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
# `module:namespace/Name-v0`, at most 80 characters. A game's name is a folder's, too: there a `+` stands for the `/`.
GYMNASIUM_ID = re.compile(
    r"(?=[A-Za-z0-9].{0,79}$)(?:[A-Za-z0-9_.]+:)?(?:[A-Za-z0-9_-]+[/+])?[A-Za-z0-9_.-]+-v\d+"
)
ATARI_ID = re.compile(r"(?:ALE/)?([A-Za-z0-9]+?)(?:NoFrameskip|Deterministic)?-v\d+")


def known_games() -> tuple[str, ...]:
    """Return the names that need no gymnasium id: the Atari-100k games and the toys."""
    return ATARI_100K + TOY


def game_of(env_id: str) -> str:
    """Return the game that a gymnasium id means: `Pong` for `PongNoFrameskip-v4` and for `ALE/Pong-v5`.

    An id of another kind stands for itself, with `+` in place of `/`. Raises ConfigError for a bare name that is no known
    game, and for a name that could not be a folder's.
    """
    if env_id in known_games():
        return env_id
    match = ATARI_ID.fullmatch(env_id_of(env_id))
    if match is None and GYMNASIUM_ID.fullmatch(env_id):
        return env_id.replace("/", "+")
    if match is None:
        raise ConfigError(
            f"game {env_id!r} does not exist{nearest(env_id, known_games())}."
            " Allowed: a game that `irisflow list` prints, or a gymnasium id such as PongNoFrameskip-v4."
        )
    return match[1] if match[1] in ATARI_100K else env_id.replace("/", "+")


def env_id_of(game: str) -> str:
    """Return the id by which a game's environment is made."""
    return game.replace("+", "/")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is safe as a part of a path and of a command, else raise ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r} is not a name. Allowed: letters, digits, `_` and `-`, at most 61, no other character first."
        )
    return name


def check_game_name(game: str) -> str:
    """Return `game` if it is safe as a part of a path and of a command, as a name and an id are; else raise ConfigError."""
    return game if GYMNASIUM_ID.fullmatch(game) else check_name("game", game)


def corpus_games(corpus: str, pool: Sequence[str], game: str) -> list[str]:
    """Return the games whose recordings pretraining for `game` reads. Raises ConfigError if there are none.

    A game that is not in the pool leaves none out.
    """
    if corpus == "own":
        return [game]
    games = [name for name in pool if corpus == "pool" or name != game]
    if not games:
        raise ConfigError(
            f"corpus {corpus}: corpus.games {list(pool)} has no game but {game}. Add another one."
        )
    return games


def corpus_address(corpus: str, game: str) -> str:
    """Return the game in the address of what a corpus pretrains for `game`: a pool's is the same for all games."""
    return ANY if corpus == "pool" else game


def check_run_game(game: str, *, corpus: str | None = None) -> str:
    """Return `game` if it is a known game by its own name, or `any` where a pool is read; else raise ConfigError."""
    if corpus == "pool":
        if game != ANY:
            raise ConfigError(f"game {game!r}: the corpus {corpus} is the same for all games. Write {ANY}.")
        return game
    if game_of(check_game_name(game)) != game:
        raise ConfigError(f"game {game!r}: write {game_of(game)}.")
    return game
