"""Stage `measure_world_model`: an agent's tokenizer and world model, from fresh to finished, on held-out episodes."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import load
from torch import Tensor, nn

from irisflow import params, paths, provenance
from irisflow.data.episodes import decode_episodes
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DataError
from irisflow.evaluation.world_model_quality import Quality, examine, film, measure
from irisflow.initialization.weights import check_fit
from irisflow.progress import progress, say
from irisflow.provenance import Cost
from irisflow.randomness import seed_everything, torch_stream
from irisflow.records import Episode
from irisflow.stages.request import RunRequest
from irisflow.storage import MANIFEST, Artefact, json_bytes, publish
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.device import choose_device
from irisflow.training.snapshots import read_snapshots
from irisflow.world_model.world_model import WorldModel, build_world_model

COLUMNS = (
    "variant", "game", "seed", "env_step", "metric", "mode", "context", "horizon", "class", "value", "n",
)  # fmt: skip


@dataclass(frozen=True)
class Models:
    """What is measured; each moment of training is loaded into the same modules."""

    tokenizer: Tokenizer
    world_model: WorldModel
    device: torch.device


def run(request: RunRequest) -> None:
    """Write the artefact `world_model_quality`: measurements, the counts behind some of them, and films."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    seed_everything(request.seed, request.stage)
    variant = request.choice.variant or ""
    recording, episodes = _held_out(request)
    agent = request.open_input(paths.agent(request.scale, variant, request.game, request.seed), kind="agent")
    models = _models(request)
    qualities, films = _measured(request, models, agent, episodes)
    source = provenance.record(
        request.stage,
        request.digest,
        seeds=request.seeds,
        inputs=[recording, agent.folder / "agent.safetensors", agent.folder / "snapshots.safetensors"],
        device=str(models.device),
        num_threads=settings.common.num_threads,
    )
    counts = {str(env_step): quality.confusion for env_step, quality in qualities.items()}
    files = {
        "world_model.csv": to_csv([variant, request.game, request.seed], qualities).encode(),
        "confusion.json": json_bytes(counts),
        "film.safetensors": save_arrays(films),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record(device=str(models.device))),
        "provenance.json": json_bytes(source),
    }
    folder = paths.world_model_quality(request.scale, variant, request.game, request.seed)
    publish(folder, files, kind="world_model_quality", digest=request.digest, about=request.about)
    say(f"{folder}: {len(qualities)} moments of training in {cost.wall_s:.1f} s")


def to_csv(run: list[Any], qualities: Mapping[int, Quality]) -> str:
    """Return the measurements of a run (variant, game, seed) as CSV; what does not apply is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for env_step, quality in qualities.items():
        for found in quality.measurements:
            metric, value, n, *columns = astuple(found)
            writer.writerow([*run, env_step, metric, *columns, value, n])
    return text.getvalue()


def load_parts(models: Models, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load what belongs to tokenizer and world model. Raises DataError for what does not fit."""
    parts: dict[str, nn.Module] = {"tokenizer": models.tokenizer, "world_model": models.world_model}
    for part, module in parts.items():
        here = module.state_dict()
        found = {
            name.removeprefix(f"{part}."): value
            for name, value in tensors.items()
            if name.startswith(f"{part}.")
        }
        kept = {name: value for name, value in here.items() if name.startswith("reconstruction.")}
        check_fit(here, kept | found, path)
        module.load_state_dict(kept | found)


def _measured(
    request: RunRequest, models: Models, agent: Artefact, episodes: list[Episode]
) -> tuple[dict[int, Quality], dict[str, np.ndarray]]:
    """Return the quality at each moment, by environment steps, and the films of the last one."""
    asked, qualities = request.settings.evaluation.world_model_quality, {}
    for env_step, path, tensors in progress(_moments(agent), what="measuring", unit="moment"):
        load_parts(models, tensors, path)
        examined = examine(
            models.tokenizer,
            models.world_model,
            episodes,
            window=request.settings.world_model.max_blocks,
            time_limit_is_end=request.settings.training.time_limit_is_end,
            device=models.device,
        )
        qualities[env_step] = measure(
            examined,
            context=asked.context,
            num_starts=asked.num_starts,
            num_samples=asked.num_samples,
            generator=torch_stream(request.seed, request.stage, device=models.device),
        )
    random = torch_stream(request.seed, request.stage, "film", device=models.device)
    return qualities, film(examined, num_films=asked.num_films, generator=random)


def _moments(agent: Artefact) -> Iterator[tuple[int, Path, dict[str, Tensor]]]:
    """Yield environment steps, file and tensors of each snapshot and of the finished agent, which comes last."""
    earlier = int(agent.about["pretraining_env_steps"])
    snapshots = agent.folder / "snapshots.safetensors"
    for env_steps, tensors in read_snapshots(snapshots):
        yield env_steps + earlier, snapshots, tensors
    last = agent.folder / "agent.safetensors"
    yield int(agent.about["env_steps"]) + earlier, last, load(agent.read(last.name))


def _models(request: RunRequest) -> Models:
    """Return tokenizer and world model as they are before weights are loaded."""
    settings = request.settings
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    environment = make_environment(settings.env.train)
    tokenizer = build_tokenizer(settings.tokenizer).to(device)
    world_model = build_world_model(
        settings.world_model,
        vocab_size=tokenizer.vocab_size,
        num_actions=environment.num_actions,
        tokens_per_frame=tokenizer.tokens_per_frame,
        full_action_ids=environment.full_action_ids,
    ).to(device)
    environment.close()
    return Models(tokenizer, world_model, device)


def _held_out(request: RunRequest) -> tuple[Path, list[Episode]]:
    """Return the held-out recording's file and its episodes. Raises DataError if they are of another game."""
    if request.held_out is None:
        raise ConfigError(f"{request.stage} needs --held-out: the folder of a recording by `hold-out`.")
    if not (request.held_out / MANIFEST).is_file():
        usual = paths.held_out(request.scale, request.choice.variant or "", request.game, request.seed)
        raise DataError(
            f"--held-out is {request.held_out}, which holds no recording (no {MANIFEST}). Allowed: a folder such as"
            f" {usual}, which `irisflow hold-out` writes."
        )
    artefact = request.open_input(request.held_out, kind="held_out")
    path = artefact.folder / paths.EPISODES
    if artefact.about.get("game") != request.game:
        raise DataError(
            f"{path} holds episodes of {artefact.about.get('game')!r}, expected {request.game!r}."
            " Give --held-out the folder of this game."
        )
    return path, decode_episodes(artefact.read(path.name), path)[0]
