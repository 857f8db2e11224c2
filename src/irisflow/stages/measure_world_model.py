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

from irisflow import params, paths, provenance, schema
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.data.collect import record_episodes
from irisflow.data.episodes import decode_episodes
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DataError
from irisflow.evaluation.arithmetic import imagined_frame_flops
from irisflow.evaluation.held_out import held_out
from irisflow.evaluation.optimism import optimism, own_futures
from irisflow.evaluation.world_model_quality import Measurement, Quality, examine, film, measure, yardsticks
from irisflow.initialization.weights import check_fit, load_weights
from irisflow.progress import progress, say
from irisflow.provenance import Cost
from irisflow.randomness import derived_seed, seed_everything, torch_stream
from irisflow.records import Episode
from irisflow.stages.request import RunRequest
from irisflow.storage import MANIFEST, Artefact, json_bytes, publish
from irisflow.training.device import choose_device, computing_record
from irisflow.training.policy import AgentPolicy
from irisflow.training.snapshots import read_snapshots

COLUMNS = (
    "variant", "game", "seed", "env_step", "metric", "mode", "context", "horizon", "class", "value", "n",
)  # fmt: skip


@dataclass(frozen=True)
class Models:
    """What is measured; each moment of training is loaded into the same modules."""

    agent: Agent
    device: torch.device


def run(request: RunRequest) -> None:
    """Write the artefact `world_model_quality`: measurements, counts and sums behind some of them, and films."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    seed_everything(request.seed, request.stage)
    variant = request.choice.variant or ""
    recording, episodes = _held_out(request)
    agent = request.open_input(paths.agent(request.scale, variant, request.game, request.seed), kind="agent")
    models = _models(request)
    qualities, films = _measured(request, models, agent, episodes)
    load_weights(models.agent, agent.folder, kind="agent")
    last, num_steps = max(qualities), _num_own_steps(settings)
    qualities[last].measurements.extend(_own_play(request, models, num_steps))
    qualities[last].measurements.append(_arithmetic(request, models))
    source = provenance.record(
        request.stage,
        request.digest,
        git=git,
        seeds=request.seeds,
        inputs=[recording, agent.folder / "agent.safetensors", agent.folder / "snapshots.safetensors"],
        computing=computing_record(models.device),
    )
    counts = {str(env_step): quality.confusion for env_step, quality in qualities.items()}
    files = {
        "world_model.csv": to_csv([variant, request.game, request.seed], qualities).encode(),
        "confusion.json": json_bytes(counts),
        "stretches.safetensors": save_arrays({**qualities[last].stretches, "env_step": np.array([last])}),
        "film.safetensors": save_arrays(films),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record(env_steps=num_steps, device=str(models.device))),
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
    parts: dict[str, nn.Module] = {
        "tokenizer": models.agent.tokenizer,
        "world_model": models.agent.world_model,
    }
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
    held_to = yardsticks(episodes, device=models.device)
    for env_step, path, tensors in progress(_moments(agent), what="measuring", unit="moment"):
        load_parts(models, tensors, path)
        examined = examine(
            models.agent.tokenizer,
            models.agent.world_model,
            episodes,
            held_to,
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
    """Return the agent as it is before weights are loaded."""
    settings = request.settings
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    environment = make_environment(settings.env.train)
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    environment.close()
    return Models(agent.to(device), device)


def _num_own_steps(settings: schema.Settings) -> int:
    """Return how long the agent plays for itself: so that the futures of all starts have room."""
    asked = settings.evaluation.world_model_quality
    return asked.num_starts * (settings.training.actor_critic.imagine_horizon + 1)


def _own_play(request: RunRequest, models: Models, num_steps: int) -> list[Measurement]:
    """Return what the finished agent imagines to get, against what it gets; nothing where no play was long enough."""
    settings, agent = request.settings, models.agent.eval()
    environment = make_environment(settings.env.train)
    acting = schema.CollectionConfig(epsilon=0.0, temperature=1.0, should_sample=True, burn_in=0)
    actions = torch_stream(request.seed, request.stage, "actions", device=models.device)
    policy = AgentPolicy(agent, acting, actions, device=models.device)
    env_seed = derived_seed(request.seed, request.stage, "environment")
    episodes = record_episodes(environment, policy, num_steps, env_seed)
    environment.close()
    time_limit_is_end = settings.training.time_limit_is_end
    futures = own_futures(
        agent,
        held_out(agent.tokenizer, episodes, time_limit_is_end=time_limit_is_end, device=models.device),
        burn_in=settings.training.actor_critic.burn_in,
        horizon=settings.training.actor_critic.imagine_horizon,
        gamma=settings.training.actor_critic.gamma,
        num_starts=settings.evaluation.world_model_quality.num_starts,
        generator=torch_stream(request.seed, request.stage, "imagination", device=models.device),
    )
    return list(optimism(futures)) if futures else []


def _arithmetic(request: RunRequest, models: Models) -> Measurement:
    """Return what an imagined frame costs."""
    horizon = request.settings.training.actor_critic.imagine_horizon
    generator = torch_stream(request.seed, request.stage, "arithmetic", device=models.device)
    flops = imagined_frame_flops(models.agent.eval(), horizon=horizon, generator=generator)
    return Measurement("imagined_frame_gflop", flops / 1e9, horizon)


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
