"""What RUN means on the command line: where the agent lies, its settings, and its media. Nothing is ever changed there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irisflow import paths, schema
from irisflow.errors import DamageError, DataError
from irisflow.identity import open_own
from irisflow.storage import MANIFEST

SETTINGS = "config/trainer.yaml"
SUFFIX = ".safetensors.zst"


@dataclass(frozen=True)
class Run:
    """An agent that can be played: `agent` is its artefact, `media` where recordings go."""

    folder: Path
    agent: Path
    settings: schema.Settings
    about: dict[str, Any]
    media: Path

    @property
    def title(self) -> str:
        """Return the run in a few words."""
        return f"{self.about.get('game', '?')} · {self.about.get('variant', '?')} · {self._size}"

    @property
    def _size(self) -> str:
        return f"{self.about.get('scale', '?')}, seed {self.about.get('seed', '?')}"

    def episode_files(self) -> list[Path]:
        """Return the files of saved episodes: those of the run folder, or what the pipeline recorded for the agent."""
        folders = [self.folder / "media" / "episodes", self.media / "recordings"]
        address = paths.address(self.agent)
        if address is not None:
            run = address[1]
            names = (run["scale"], run["variant"], run["game"], run["seed"])
            folders.append(paths.held_out(*names))
            folders.append(paths.recording(run["scale"], run["game"], run["seed"]))
        return [path for folder in folders for path in sorted(folder.rglob(f"*{SUFFIX}"))]


def open_run(folder: Path, *, checkpoint: str = "last", media: Path | None = None) -> Run:
    """Return the run in a folder. Raises DataError if it is none, or its agent is missing or damaged."""
    is_by_hand = (folder / SETTINGS).is_file()
    agent = folder / "checkpoints" / checkpoint if is_by_hand else folder
    _check_there(folder, agent, is_by_hand=is_by_hand, checkpoint=checkpoint)
    with untouched():
        artefact = open_own(agent, kind="agent")
        settings = _settings(artefact.read("params.yaml"), agent / "params.yaml")
    if is_by_hand:
        _take_game(settings, folder / SETTINGS)
    if media is None:
        media = folder / "media" if is_by_hand else Path("outputs") / "played" / _name(artefact.about)
    return Run(folder, agent, settings, artefact.about, media)


@contextmanager
def untouched() -> Iterator[None]:
    """Tell of damage without setting it aside: who only looks at a run changes nothing in it."""
    try:
        yield
    except DamageError as error:
        raise DataError(str(error)) from None


def _check_there(folder: Path, agent: Path, *, is_by_hand: bool, checkpoint: str) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Give that of an agent or of a run.")
    if not is_by_hand and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder} is no run: it has neither {MANIFEST}, as results/SCALE/agents/VARIANT/GAME/seed-N has, nor"
            f" {SETTINGS}, as a run folder has."
        )
    if is_by_hand and not (agent / MANIFEST).is_file():
        others = [
            one.name for one in sorted((folder / "checkpoints").glob("*")) if (one / MANIFEST).is_file()
        ]
        found = f"; there is {', '.join(others)}" if others else "; the run has finished none yet"
        raise DataError(f"{folder} has no agent checkpoints/{checkpoint}{found}.")


def _settings(data: bytes, path: Path) -> schema.Settings:
    try:
        tree = yaml.safe_load(data)
        return cast(schema.Settings, OmegaConf.merge(OmegaConf.structured(schema.Settings), tree))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not the configuration of an agent of this version: {reason}.") from None


def _take_game(settings: schema.Settings, path: Path) -> None:
    """Play the game that the run folder names."""
    try:
        env = yaml.safe_load(path.read_bytes())["env"]
        settings.env.train.id, settings.env.test.id = str(env["train"]["id"]), str(env["test"]["id"])
    except (yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no configuration of a run: {type(error).__name__}: {reason}.") from None


def _name(about: dict[str, Any]) -> Path:
    """Return the folder of what was played of an agent of the pipeline."""
    words = (str(about.get(key, "unknown")) for key in ("scale", "variant", "game", "seed"))
    return Path(*(re.sub(r"[^A-Za-z0-9_-]", "_", word) for word in words))
