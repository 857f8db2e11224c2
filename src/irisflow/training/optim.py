"""Optimizers, and which parameters decay. IRIS, appendix B."""

from collections.abc import Callable, Iterable
from inspect import unwrap
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from irisflow import schema
from irisflow.behaviour.agent import Agent
from irisflow.errors import ConfigError


class _WithoutCompiler(Optimizer):
    """Torch's optimizer without the guards that keep its methods out of compiled graphs.

    The first guard imports torch's compiler, more than a second for every process that trains. No compiled graph holds an
    optimizer here; what the methods compute is the same.
    """

    def step(self, closure: Any = None) -> Any:
        """Update all parameters, and mark them as changed, which torch's fused optimizers do not."""
        with torch.no_grad():
            loss = _unguarded(super().step)(closure)
        increment_version(parameter for group in self.param_groups for parameter in group["params"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        _unguarded(super().zero_grad)(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own."""
        _unguarded(super().add_param_group)(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return moments and settings."""
        state: dict[str, Any] = _unguarded(super().state_dict)()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        _unguarded(super().load_state_dict)(state_dict)


def _unguarded(method: Any) -> Callable[..., Any]:
    """Return a bound method without its decorators."""
    return MethodType(unwrap(method.__func__), method.__self__)


class Adam(_WithoutCompiler, torch.optim.Adam):
    """Kingma and Ba (2015), each parameter in one pass (`fused`): in half of the time that torch's loop takes."""

    def __init__(self, parameters: Iterable[Tensor], *, lr: float) -> None:
        super().__init__(parameters, lr=lr, fused=True)


class AdamW(_WithoutCompiler, torch.optim.AdamW):
    """Loshchilov and Hutter (2019), in the same way."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float) -> None:
        super().__init__(groups, lr=lr, fused=True)


def optimizers(agent: Agent, training: schema.Training) -> dict[str, Optimizer]:
    """Return one optimizer per component. Weight decay is the world model's, on Linear weights only."""
    return {
        "tokenizer": tokenizer_optimizer(agent.tokenizer, learning_rate=training.tokenizer.learning_rate),
        "world_model": world_model_optimizer(
            agent.world_model,
            learning_rate=training.world_model.learning_rate,
            weight_decay=training.world_model.weight_decay,
        ),
        "actor_critic": Adam(
            nn.Module.parameters(agent.get_submodule("actor_critic")),
            lr=training.actor_critic.learning_rate,
        ),
    }


def tokenizer_optimizer(tokenizer: nn.Module, *, learning_rate: float) -> Optimizer:
    """Return the optimizer of all that is trained of a tokenizer."""
    return Adam(
        [parameter for parameter in tokenizer.parameters() if parameter.requires_grad],
        lr=learning_rate,
    )


def world_model_optimizer(world_model: nn.Module, *, learning_rate: float, weight_decay: float) -> Optimizer:
    """Return the world model's optimizer; Linear weights decay."""
    return AdamW(decay_groups(world_model, weight_decay=weight_decay), lr=learning_rate)


def decay_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: those that decay, those that do not, each in the module's order.

    Parameters that need no gradient, such as those of a frozen language model, are in neither.
    """
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decays = {name: has_decay(module, name) for name in learning}
    return [
        {
            "params": [parameter for name, parameter in learning.items() if decays[name] == decay],
            "weight_decay": weight_decay if decay else 0.0,
        }
        for decay in (True, False)
    ]


def has_decay(module: nn.Module, name: str) -> bool:
    """Return whether a parameter decays: a Linear's weight does; biases, norms and embedding tables do not.

    A module with parameters of another kind says it itself, by a method `has_decay` that takes a parameter's name within
    it; else ConfigError is raised.
    """
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if isinstance(owner, nn.Linear):
        return leaf == "weight"
    if isinstance(owner, nn.Embedding | nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return False
    parts = name.split(".")
    for depth in reversed(range(len(parts))):
        says: Callable[[str], bool] | None = getattr(
            module.get_submodule(".".join(parts[:depth])), "has_decay", None
        )
        if says is not None:
            return says(".".join(parts[depth:]))
    raise ConfigError(
        f"parameter {name} belongs to a {type(owner).__name__}: nothing says whether it decays."
        " Allowed: Linear, Embedding and norms, or a module with a method has_decay."
    )
