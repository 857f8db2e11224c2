"""The folder of a run by hand: what lies where, and the copy of the code that it goes on with."""

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from irisflow.checkout import git_state
from irisflow.errors import ConfigError, DataError
from irisflow.params import ROOT
from irisflow.storage import json_bytes, space_errors, write_atomically

CODE = ("src/irisflow", "src/main.py", "params", "scripts")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def trainer(self) -> Path:
        """The run's whole configuration."""
        return self.path / "config/trainer.yaml"

    @property
    def origin(self) -> Path:
        """Where the code and the first weights came from."""
        return self.path / "config/origin.json"

    @property
    def resume(self) -> Path:
        """The checkpoints that the run goes on from: weights, optimizers, replay buffer, random states, emulator."""
        return self.path / "checkpoints/resume"

    @property
    def last(self) -> Path:
        """The agent after the newest epoch."""
        return self.path / "checkpoints/last"

    @property
    def best(self) -> Path:
        """The agent with the highest mean return of an evaluation so far."""
        return self.path / "checkpoints/best"

    @property
    def episodes(self) -> Path:
        """Saved episodes: train, test and imagination."""
        return self.path / "media/episodes"

    @property
    def reconstructions(self) -> Path:
        """Pictures of frames beside their reconstructions."""
        return self.path / "media/reconstructions"

    def make(self, whole: DictConfig) -> None:
        """Make the folders, copy the code that runs, and write the configuration, which comes last."""
        with space_errors(self.path):
            for folder in (self.resume, self.trainer.parent, self.reconstructions, self.path / "wandb"):
                folder.mkdir(parents=True, exist_ok=True)
            for name in ("train", "test", "imagination"):
                (self.episodes / name).mkdir(parents=True, exist_ok=True)
            for name in CODE:
                _copy(ROOT / name, self.path / name)
        write_atomically(self.path / "config/python", f"{sys.executable}\n".encode())
        write_atomically(self.trainer, OmegaConf.to_yaml(whole).encode())

    def clear(self) -> None:
        """Remove the halves of files that a kill left while they were written."""
        for folder in (self.path, self.last, self.best, self.reconstructions):
            for left in folder.glob(".*.tmp"):
                left.unlink()

    def check(self) -> None:
        """Raise ConfigError unless this is the folder of a run."""
        if not self.trainer.is_file():
            raise ConfigError(
                f"{self.path.absolute()} is no run folder (no config/trainer.yaml). Name one of outputs/, or change into it."
            )

    def write_origin(self, weights: dict[str, Any]) -> None:
        """Keep where the code and the first weights came from, and what of the code was not committed."""
        git = git_state(self.origin.parent)
        if git["diff_file"] is not None:
            git["diff_file"] = Path(git["diff_file"]).relative_to(self.path).as_posix()
        write_atomically(self.origin, json_bytes({"weights": weights, "git": git}))

    def read_origin(self) -> dict[str, dict[str, Any]]:
        """Return what `write_origin` kept: `weights` and `git`. Raises DataError if that is missing or damaged."""
        try:
            record = json.loads(self.origin.read_bytes())
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or record.keys() != {"weights", "git"}:
            raise DataError(
                f"{self.origin} is missing or damaged. Take it from a copy of the run, or start the run anew."
            )
        return record


def dated_folder() -> Path:
    """Return the path of a run folder that does not exist: a second run of the same second gets a name of its own."""
    base = Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder of the code; what it is copied onto is left alone: that is the same run's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    if source.is_dir():
        shutil.copytree(source, target, ignore=LEFT_OUT)
    else:
        shutil.copy2(source, target)
