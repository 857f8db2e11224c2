"""Where an agent's weights come from before training: random, pretrained parts, or a checkpoint named by path."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from irisflow import games, paths, schema
from irisflow.behaviour.agent import Agent
from irisflow.errors import DataError
from irisflow.initialization.foreign import Loaded, load_foreign
from irisflow.initialization.weights import load_weights
from irisflow.storage import sha256_of

PARTS = ("tokenizer", "world_model", "actor_critic")


@dataclass(frozen=True)
class Origin:
    """Where weights came from: the sha256 of files by path, and the environment steps that were spent on making them."""

    sha256: dict[str, str]
    env_steps: int
    foreign: Loaded | None = (
        None  # what a checkpoint of another program gave; the steps that made it are not known
    )

    def record(self) -> dict[str, Any]:
        """Return this as JSON-able data."""
        return {**asdict(self), "foreign": self.foreign.record() if self.foreign else None}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Return what `record` was called on."""
        foreign = record["foreign"]
        loaded = Loaded(**{**foreign, "path": Path(foreign["path"])}) if foreign else None
        return cls(dict(record["sha256"]), int(record["env_steps"]), loaded)


def initialize(agent: Agent, settings: schema.Settings, *, scale: str, game: str, seed: int) -> Origin:
    """Load what `initialization` names into the agent and return where it came from.

    A checkpoint named by path is a folder of ours, which must fit, or a file of another program, of which is taken what
    fits. Raises DataError if an artefact is missing, damaged, or of other sizes.
    """
    chosen = settings.initialization
    used: list[Path] = []
    recorded: dict[str, int] = {}
    for part, folder in initial_folders(settings, scale=scale, game=game, seed=seed):
        about = load_weights(getattr(agent, part), folder, kind=part)
        recorded |= about["recordings"]
        used.append(folder / f"{part}.safetensors")
    foreign = None
    if chosen.path_to_checkpoint is not None:
        path = Path(chosen.path_to_checkpoint)
        if not path.exists():
            raise DataError(
                f"initialization.path_to_checkpoint: {path} does not exist. Allowed: a folder with agent.safetensors, as a"
                " trained agent's, or a checkpoint file of IRIS or taming-transformers."
            )
        parts = {part: getattr(agent, part) for part in PARTS if getattr(chosen, f"load_{part}")}
        if path.is_file():
            foreign = load_foreign(parts, path)
        else:
            for part, module in parts.items():
                load_weights(module, path, kind="agent", part=part)
        used.append(path if path.is_file() else path / "agent.safetensors")
    sha256 = {str(path): sha256_of(path) for path in used}
    return Origin(sha256, sum(recorded.values()), foreign)


def initial_folders(settings: schema.Settings, *, scale: str, game: str, seed: int) -> list[tuple[str, Path]]:
    """Return the parts of an agent that start pretrained, and their folders."""
    folders = pretrained_folders(settings, scale=scale, game=game, seed=seed)
    return [
        (part, folders[part]) for part in folders if getattr(settings.initialization, part) == "pretrained"
    ]


def pretrained_folders(settings: schema.Settings, *, scale: str, game: str, seed: int) -> dict[str, Path]:
    """Return the folders of the pretrained tokenizer and world model that a configuration names."""
    tokenizer, corpus = settings.tokenizer.name, settings.corpus.name
    game = games.corpus_address(corpus, game)
    return {
        "tokenizer": paths.tokenizer(scale, tokenizer, corpus, game, seed),
        "world_model": paths.world_model(scale, settings.world_model.name, tokenizer, corpus, game, seed),
    }
