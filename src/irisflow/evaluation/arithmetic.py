"""Arithmetic, counted: of any work, and of an imagined frame, whatever the machine."""

from typing import Any, Self

import torch
from torch.utils.flop_counter import FlopCounterMode

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import played
from irisflow.plainly import as_torch_does


class FlopCounter(FlopCounterMode):
    """torch's counter without its account by module. While it counts, all is computed by torch's operators, which it sees.

    That account hangs hooks on gradients, and fails where a weight's view is made without gradient, as by `parallel`.
    """

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker: Any = _Everywhere()
        self._plain = as_torch_does()

    def __enter__(self) -> Self:
        self._plain.__enter__()
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._plain.__exit__(*error)


class _Everywhere:
    """Stands for torch's tracker of modules: all work is done in one place."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@torch.no_grad()
def imagined_frame_flops(agent: Agent, *, horizon: int, generator: torch.Generator) -> float:
    """Return FLOPs a frame of one rollout of `horizon` steps: world model, decoder and policy, without a backward pass.

    An estimate: counted are convolutions, matrix products and attention as torch computes them, a product and a sum as two;
    not elementwise operations. The agent is in eval mode, its tensors where the generator is.
    """
    tokens = torch.zeros(1, agent.tokenizer.tokens_per_frame, dtype=torch.int64, device=generator.device)
    state = agent.actor_critic.initial_state(1)
    inputs = (tokens, agent.view(tokens), state.hidden, state.cell)
    with FlopCounter() as counted:
        played(inputs, generator, agent=agent, horizon=horizon, shift=0)
    return float(counted.get_total_flops()) / horizon
