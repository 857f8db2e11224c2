"""What both doors do to train one agent: build, initialise, drive, and turn the result into files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save

from irisflow import params, provenance, schema
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.envs.make import cartridges, make_environment
from irisflow.initialization.initialize import Origin, initialize
from irisflow.provenance import Cost
from irisflow.randomness import seed_everything
from irisflow.storage import json_bytes
from irisflow.training.device import choose_device, computing_record
from irisflow.training.loop import Trainer
from irisflow.training.metrics import json_lines
from irisflow.training.run import History


@dataclass(frozen=True)
class Session:
    """An agent ready to be trained, and where its first weights came from."""

    agent: Agent
    trainer: Trainer
    origin: Origin
    device: torch.device


def prepare(settings: schema.Settings, *, scale: str, game: str, origin: Origin | None = None) -> Session:
    """Return a trainer with an initialised agent. Raises DataError where initial weights are missing or do not fit.

    With an `origin`, where the weights of a run that goes on once came from, none are loaded: its checkpoint has them.
    """
    seed = settings.common.seed
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    environment = make_environment(settings.env.train)
    seed_everything(seed, "train_agent")
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    if origin is None:
        origin = initialize(agent, settings, scale=scale, game=game, seed=seed)
    return Session(agent, Trainer(agent, environment, settings, device=device), origin, device)


def weights_of(agent: Agent) -> bytes:
    """Return the agent's weights as a safetensors file."""
    return save({name: value.cpu().contiguous() for name, value in agent.state_dict().items()})


def files_of(
    session: Session,
    settings: schema.Settings,
    history: History,
    cost: Cost,
    digest: str,
    *,
    git: Mapping[str, Any],
) -> dict[str, bytes]:
    """Return the files of a trained agent's artefact by name, all but its learning curve.

    `git` is the state of the checkout that the code comes from, when the run began.
    """
    trainer = session.trainer
    parameters = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in session.agent.named_children()
    }
    spent = cost.record(
        env_steps=trainer.env_steps,
        num_updates=trainer.num_updates,
        device=str(session.device),
        parameters=parameters,
    )
    source = provenance.record(
        "train_agent",
        digest,
        git=git,
        seeds={"run": settings.common.seed},
        inputs=[],
        computing=computing_record(session.device, precision=settings.common.precision),
    )
    source |= {"inputs": session.origin.sha256, "cartridges": cartridges(settings.env.train)}
    if session.origin.foreign is not None:
        source["initial_weights"] = session.origin.foreign.record()
    return {
        "agent.safetensors": weights_of(session.agent),
        "params.yaml": params.to_yaml(settings).encode(),
        "metrics.jsonl": json_lines(history.metrics),
        "timings.jsonl": json_lines(history.timings),
        "reconstructions.safetensors": save_arrays(trainer.reconstructions()),
        "cost.json": json_bytes(spent),
        "provenance.json": json_bytes(source),
    }


def about(session: Session, identity: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent's manifest says: the run, its own steps, and those that pretraining read."""
    return {
        **identity,
        "env_steps": session.trainer.env_steps,
        "pretraining_env_steps": session.origin.env_steps,
    }
