"""`irisflow import-dataset`: episodes that others recorded, as an artefact that `collect` takes in place of random play."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irisflow import games, params, paths
from irisflow.checkout import git_state
from irisflow.data.episodes import encode_episodes
from irisflow.data.foreign_episodes import find_source
from irisflow.data.importing import import_episodes
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError
from irisflow.progress import say
from irisflow.storage import json_bytes, publish, write_atomically

HEAD = "# Episodes that `irisflow import-dataset` imported. recording.num_steps may take only so many of their steps.\n"
SIZES = (16, 512)


@dataclass(frozen=True)
class Wish:
    """What the command line asks for, checked."""

    source: str
    name: str
    game: str
    size: int
    should_replace: bool

    def __post_init__(self) -> None:
        """Raise ConfigError for what is not allowed."""
        games.check_name("--name", self.name)
        games.check_run_game(self.game)
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise ConfigError(f"--size is {self.size}; allowed: {SIZES[0]} to {SIZES[1]}.")


def import_dataset(wish: Wish) -> None:
    """Import episodes of a game under a name: their artefact, and `params/recording/NAME.yaml`, which names its sha256.

    Raises before anything is written if an episode is not as it must be, or other ones have this name already.
    """
    known = _known(wish.name)
    source = find_source(wish.source)
    episodes = import_episodes(source, num_actions=_num_actions(wish.game), size=wish.size)
    about = {"dataset": wish.name, "game": wish.game, "size": wish.size, "kind": source.kind}
    data = encode_episodes(episodes, metadata={key: str(value) for key, value in about.items()})
    folder = paths.imported(wish.name, wish.game)
    origin = {"source": wish.source, "sha256": {str(file): _sha256_of(file) for file in source.files}}
    files = {
        paths.EPISODES: data,
        "provenance.json": json_bytes({"stage": "import_dataset", **git_state(), **origin}),
    }
    sha256 = hashlib.sha256(data).hexdigest()
    if known.get(wish.game, sha256) != sha256 and not wish.should_replace:
        raise ConfigError(
            f"--name {wish.name}: other episodes of {wish.game} have this name ({folder}). Choose another; --force replaces"
            " them."
        )
    publish(folder, files, kind="imported", digest=sha256[:16], about=about)
    write_atomically(_file(wish.name), _text(wish.name, {**known, wish.game: sha256}).encode())
    num_steps = sum(map(len, episodes))
    say(f"{folder}: {num_steps} steps in {len(episodes)} episodes; recording={wish.name} takes them")


def _sha256_of(file: Path) -> str:
    """Return a file's sha256. Nothing is set aside here: the file is the user's own."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _file(name: str) -> Path:
    return params.PARAMS / "recording" / f"{name}.yaml"


def _known(name: str) -> dict[str, str]:
    """Return the sha256 of what has this name already, by game. Raises ConfigError for a file that is not an import's."""
    if not _file(name).exists():
        return {}
    try:
        content: Any = yaml.safe_load(_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    is_import = isinstance(content, dict) and content.get("policy") == "recorded"
    if not is_import or not isinstance(content.get("sha256"), dict):
        raise ConfigError(
            f"--name {name}: params/recording/{name}.yaml is no imported data set. Choose another name."
        )
    return {str(game): str(sha256) for game, sha256 in content["sha256"].items()}


def _text(name: str, sha256: dict[str, str]) -> str:
    content = {
        "policy": "recorded",
        "num_steps": None,
        "dataset": name,
        "sha256": dict(sorted(sha256.items())),
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False)


def _num_actions(game: str) -> int:
    """Return how many actions a game has."""
    env = params.settings_from([f"env.train.id={games.env_id_of(game)}"]).env.train
    environment = make_environment(env)
    environment.close()
    return environment.num_actions
