"""Words of IRIS's command line that mean something else to Hydra here: they are understood, not passed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irisflow.errors import ConfigError

# IRIS's groups have one file each, `default`; here that is the file which holds IRIS's own values.
GROUPS = {
    "tokenizer": "iris",
    "world_model": "iris",
    "actor_critic": "cnn_lstm",
    "env": "atari",
    "datasets": None,
}
# What Hydra builds in IRIS where nobody says otherwise.
TARGETS = (
    "envs.make_atari",
    "dataset.EpisodesDataset",
    "dataset.EpisodesDatasetRamMonitoring",
    "models.tokenizer.Tokenizer",
    "models.tokenizer.Encoder",
    "models.tokenizer.Decoder",
    "models.tokenizer.EncoderDecoderConfig",
    "models.TransformerConfig",
)


@dataclass(frozen=True)
class Words:
    """A command line without IRIS's own words: overrides for `params/`, and the run folder, if it named one."""

    overrides: list[str]
    folder: Path | None


def understood(arguments: Sequence[str]) -> Words:
    """Return what a command line of IRIS says. Raises ConfigError for what cannot be done here, naming what can."""
    overrides, folder = [], None
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key.lstrip("+~")
        if key == "hydra.run.dir" and value:
            folder = Path(value)
        elif key.endswith("._target_"):
            _check_target(argument, value)
        elif key in GROUPS and value == "default":
            overrides += [f"{key}={GROUPS[key]}"] if GROUPS[key] else []
        elif key == "hydra" or key.startswith("hydra."):
            _check_hydra(argument, key)
        else:
            overrides.append(argument[1:] if argument.startswith("+") and equals else argument)
    return Words(overrides, folder)


def _check_target(argument: str, value: str) -> None:
    if value not in TARGETS:
        raise ConfigError(
            f"{argument}: Hydra builds nothing here. Parts are chosen by name: tokenizer=, world_model=, actor_critic=,"
            " env.train.id=; `irisflow list` prints the names."
        )


def _check_hydra(argument: str, key: str) -> None:
    if key not in ("hydra.output_subdir", "hydra.job.chdir"):
        raise ConfigError(
            f"{argument}: of Hydra's own settings there are hydra.run.dir (the run folder), hydra.output_subdir and"
            " hydra.job.chdir (both without effect)."
        )
