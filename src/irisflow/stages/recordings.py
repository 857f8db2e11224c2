"""What the pretraining stages share: reading the recordings of a corpus, publishing a pretrained part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save
from torch import nn

from irisflow import games, params, paths, provenance, schema
from irisflow.data.episodes import decode_episodes
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DamageError, DataError
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.records import Episode
from irisflow.stages.request import RunRequest
from irisflow.storage import json_bytes, publish
from irisflow.training.device import computing_record
from irisflow.training.metrics import json_lines
from irisflow.training.pretrain import Pretrained, as_replay


def recordings(
    request: RunRequest, *, time_limit_is_end: bool = True, has_full_actions: bool = False
) -> tuple[ReplayBuffer, dict[Path, int]]:
    """Return the recorded steps of all games of the corpus in one buffer, and how many each file holds.

    With `has_full_actions` the actions are those of `games.FULL_ACTIONS`, in which all games agree. Raises DataError for a
    file that is missing, damaged, or of another run.
    """
    corpus, episodes, steps = request.settings.corpus, [], {}
    for game in games.corpus_games(corpus.name, corpus.games, request.game):
        path, recorded = _recorded(request, game)
        episodes += (
            with_full_actions(recorded, path, _full_ids(request, game)) if has_full_actions else recorded
        )
        steps[path] = sum(len(episode) for episode in recorded)
    return as_replay(episodes, time_limit_is_end=time_limit_is_end), steps


def _recorded(request: RunRequest, game: str) -> tuple[Path, list[Episode]]:
    """Return the file of a game's recording and its episodes."""
    folder = paths.recording(request.scale, game, request.seed)
    artefact = request.open_input(folder, kind="recording")
    path = folder / paths.EPISODES
    episodes, about = decode_episodes(artefact.read(path.name), path)
    for key, expected in {"game": game, "seed": request.seed, "scale": request.scale}.items():
        if about.get(key) != str(expected):
            finding = f"{path} holds episodes of {key} {about.get(key)!r}, expected {str(expected)!r}."
            raise DamageError(finding, folder, "foreign")
    return path, episodes


def with_full_actions(episodes: list[Episode], path: Path, ids: Sequence[int]) -> list[Episode]:
    """Return episodes whose actions are `ids` of the game's own. Raises DataError for an action that the game lacks."""
    if any(int(episode.actions.max()) >= len(ids) for episode in episodes):
        raise DataError(
            f"{path} holds an action above {len(ids) - 1}, which the game does not have. Record it again."
        )
    return [replace(episode, actions=np.asarray(ids)[episode.actions]) for episode in episodes]


def _full_ids(request: RunRequest, game: str) -> Sequence[int]:
    """Return which of the full set each of a game's actions is."""
    settings = OmegaConf.merge(cast(DictConfig, request.settings.env.train), {"id": games.env_id_of(game)})
    environment = make_environment(cast(schema.Env, settings))
    environment.close()
    if environment.full_action_ids is None:
        raise ConfigError(
            f"world_model.actions is all, but nothing says which of the 18 Atari actions those of {game} are. Allowed: game."
        )
    return environment.full_action_ids


def publish_pretrained(
    request: RunRequest,
    part: nn.Module,
    result: Pretrained,
    cost: Cost,
    *,
    git: Mapping[str, Any],
    folder: Path,
    name: str,
    steps_recorded: dict[Path, int],
    inputs: list[Path],
    device: torch.device,
) -> None:
    """Write a pretrained part's artefact: weights, configuration, losses, cost and provenance."""
    settings = request.settings
    weights = {key: value.cpu().contiguous() for key, value in part.state_dict().items()}
    parameters = {name: sum(parameter.numel() for parameter in part.parameters())}
    spent = cost.record(num_updates={name: result.num_updates}, device=str(device), parameters=parameters)
    source = provenance.record(
        request.stage,
        request.digest,
        git=git,
        seeds=request.seeds,
        inputs=[*steps_recorded, *inputs],
        computing=computing_record(device, precision=settings.common.precision),
    )
    about = {**request.about, "recordings": {str(path): steps for path, steps in steps_recorded.items()}}
    files = {
        f"{name}.safetensors": save(weights),
        "params.yaml": params.to_yaml(settings).encode(),
        "metrics.jsonl": json_lines(result.metrics),
        "cost.json": json_bytes(spent),
        "provenance.json": json_bytes(source),
    }
    publish(folder, files, kind=name, digest=request.digest, about=about)
    say(f"{folder}: {result.num_updates} updates in {cost.wall_s:.1f} s")
