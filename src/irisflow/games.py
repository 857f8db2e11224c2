"""The games that a study can name, and what their gymnasium ids have in common."""

import re

from irisflow.errors import ConfigError, nearest

ATARI_100K = (
    "Alien", "Amidar", "Assault", "Asterix", "BankHeist", "BattleZone", "Boxing", "Breakout", "ChopperCommand",
    "CrazyClimber", "DemonAttack", "Freeway", "Frostbite", "Gopher", "Hero", "Jamesbond", "Kangaroo", "Krull",
    "KungFuMaster", "MsPacman", "Pong", "PrivateEye", "Qbert", "RoadRunner", "Seaquest", "UpNDown",
)  # fmt: skip
TOY = ("Catch",)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
GYMNASIUM_ID = re.compile(r"(?:[A-Za-z0-9_.]+:)?(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+-v\d+")
ATARI_ID = re.compile(r"(?:ALE/)?([A-Za-z0-9]+?)(?:NoFrameskip|Deterministic)?-v\d+")


def known_games() -> tuple[str, ...]:
    """Return the names that need no gymnasium id: the Atari-100k games and the toys."""
    return ATARI_100K + TOY


def game_of(env_id: str) -> str:
    """Return the game that a gymnasium id means: `Pong` for `PongNoFrameskip-v4` and for `ALE/Pong-v5`.

    An id of another kind stands for itself. Raises ConfigError for a bare name that is no known game, and for
    a name that could not be a folder's.
    """
    if env_id in known_games():
        return env_id
    match = ATARI_ID.fullmatch(env_id)
    if match is None and GYMNASIUM_ID.fullmatch(env_id):
        return env_id
    if match is None:
        raise ConfigError(
            f"game {env_id!r} does not exist{nearest(env_id, known_games())}."
            " Allowed: a game that `irisflow list` prints, or a gymnasium id such as PongNoFrameskip-v4."
        )
    return match[1] if match[1] in ATARI_100K else env_id


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is safe as a part of a path and of a command, else raise ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r} is not a name. Allowed: letters, digits, `_` and `-`, at most 61, no other character first."
        )
    return name
