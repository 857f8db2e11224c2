"""Arithmetic, counted: of any work, and of an imagined frame, whatever the machine."""

from collections import Counter
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import played
from irisflow.plainly import as_torch_does


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what torch's formulas give for each operator. While it counts, torch's operators compute all; it sees those.

    torch's own FlopCounterMode takes composed operators apart with its compiler, whose import takes seconds, and accounts by
    module with hooks on gradients, which fail where a weight's view is made without gradient, as by `parallel`.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return false: else torch imports its compiler at the first operator, to keep it from compiling what is below."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_operator: Counter[str] = Counter()
        self._plain = as_torch_does()

    def __enter__(self) -> Self:
        self._plain.__enter__()
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._plain.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return what the operator returns."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if formula := flop_registry.get(func.overloadpacket):
            self.by_operator[str(func.overloadpacket)] += formula(*args, **kwargs, out_val=out)
        return out


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
    return float(counted.by_operator.total()) / horizon
