"""Every part of every family, as `params/` sets it at scale `smoke`: contract tests need not be told of a new one."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from irisflow import params, variants
from irisflow.behaviour.actor_critics.base import ActorCritic

NUM_ACTIONS = 4
CODE_MAP = (16, 4, 4)  # of the tokenizer at scale `smoke`
PLACES = {**params.GROUP_PLACES, "actor_critic": "actor_critic"}


def configured(*overrides: str) -> DictConfig:
    """Return a checked configuration at scale `smoke`."""
    return params.settings_from(["scale=smoke", *overrides])


def settings_of(family: str, name: str, *overrides: str) -> dict[str, Any]:
    """Return the settings with which `variants.build` builds a part."""
    whole = configured(f"{family}={name}", *overrides)
    found = OmegaConf.to_container(OmegaConf.select(whole, PLACES[family]))
    assert isinstance(found, dict)
    if family == "reconstruction":
        return {"name": name, **found[name]}
    return {str(key): value for key, value in found.items()}


def build_policy(name: str) -> ActorCritic:
    """Return an actor-critic."""
    policy: ActorCritic = variants.build(
        "actor_critic",
        settings_of("actor_critic", name),
        num_actions=NUM_ACTIONS,
        resolution=64,
        code_map=CODE_MAP,
    )
    return policy


def view_shape(policy: ActorCritic) -> tuple[int, int, int]:
    """Return the shape of what a policy sees."""
    return (3, 64, 64) if policy.sees == "pictures" else CODE_MAP
