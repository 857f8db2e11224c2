"""Arithmetic, counted: of any work, and of an imagined frame, whatever the machine."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import played


class FlopCounter(FlopCounterMode):
    """torch's counter, which counts oneDNN's products, too, and keeps no account by module.

    That account hangs hooks on gradients, and fails where a weight's view is made without gradient, as by `parallel`.
    """

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=_unknown_to_torch())
        self.mod_tracker: Any = _Everywhere()


class _Everywhere:
    """Stands for torch's tracker of modules: all work is done in one place."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _unknown_to_torch() -> dict[Any, Any]:
    product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return {} if product is None else {product: _linear_flops}


def _linear_flops(rows: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    """Return two for each product of a row with a column of the weight."""
    return 2 * rows[-1] * prod(out_shape)


@torch.no_grad()
def imagined_frame_flops(agent: Agent, *, horizon: int, generator: torch.Generator) -> float:
    """Return FLOPs a frame of one rollout of `horizon` steps: world model, decoder and policy, without a backward pass.

    An estimate: counted are convolutions, matrix products and attention, a product and a sum as two; not what elementwise
    operations and own kernels do. The agent is in eval mode, its tensors where the generator is.
    """
    tokens = torch.zeros(1, agent.tokenizer.tokens_per_frame, dtype=torch.int64, device=generator.device)
    state = agent.actor_critic.initial_state(1)
    inputs = (tokens, agent.view(tokens), state.hidden, state.cell)
    with FlopCounter() as counted:
        played(inputs, generator, agent=agent, horizon=horizon, shift=0)
    return float(counted.get_total_flops()) / horizon
