"""The second door: one run by hand with IRIS's command line, in a run folder of its own under `outputs/`."""

from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from irisflow import games, params
from irisflow.cli import guarded
from irisflow.errors import ConfigError

USAGE = """usage: python src/main.py KEY=VALUE ...

Trains one agent, IRIS's way, in outputs/YYYY-MM-DD/hh-mm-ss/. For example:
  python src/main.py env.train.id=BreakoutNoFrameskip-v4 common.device=cuda:0 wandb.mode=online
  python src/main.py env.train.id=Catch common.device=cpu scale=smoke

Keys are those of params/config.yaml; scale=, variant=, tokenizer=, world_model=, ... choose files of params/.
From inside a run folder, the same command with common.resume=true goes on with that run.
`irisflow list` tells what there is."""


def main(arguments: Sequence[str]) -> int:
    """Train one agent as the arguments say and return the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    return guarded(lambda: launch(list(arguments)))


def launch(overrides: list[str]) -> None:
    """Train one agent. Raises ConfigError before anything is written if the command line is wrong."""
    whole = params.settings_from(overrides)
    if not any(override.startswith("env.train.id=") for override in overrides):
        raise ConfigError("env.train.id has no value. Type for example env.train.id=BreakoutNoFrameskip-v4.")
    game = games.game_of(whole.env.train.id)
    digest = params.digest("train_agent", whole, game, whole.common.seed)
    # Imported by name and only now: torch takes seconds, and a wrong key should not have to wait for it.
    import_module("irisflow.stages.by_hand").run(whole, game=game, digest=digest, folder=_run_folder(whole))


def _run_folder(whole: DictConfig) -> Path:
    """Return the working directory for a run that goes on, else the path of a new run folder, not yet made."""
    if not whole.common.resume:
        return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    if not Path("config/trainer.yaml").is_file():
        raise ConfigError(
            f"common.resume=true: {Path.cwd()} is no run folder (no config/trainer.yaml). Change into one."
        )
    return Path()
