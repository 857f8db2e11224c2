"""What an imagined frame costs in arithmetic, whatever the machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import played
from irisflow.world_model.linear import as_torch_does


@torch.no_grad()
def imagined_frame_flops(agent: Agent, *, horizon: int, generator: torch.Generator) -> float:
    """Return FLOPs a frame of one rollout of `horizon` steps: world model, decoder and policy, without a backward pass.

    An estimate: counted are convolutions, matrix products and attention, a product and a sum as two; not what elementwise
    operations and own kernels do. The agent is in eval mode, its tensors where the generator is; weights that need a
    gradient are counted as those that need none, for torch's counter hangs hooks on them, which some views refuse.
    """
    tokens = torch.zeros(1, agent.tokenizer.tokens_per_frame, dtype=torch.int64, device=generator.device)
    state = agent.actor_critic.initial_state(1)
    inputs = (tokens, agent.view(tokens), state.hidden, state.cell)
    with _without_gradient(agent), as_torch_does(), FlopCounterMode(display=False) as counted:
        played(inputs, generator, agent=agent, horizon=horizon, shift=0)
    return float(counted.get_total_flops()) / horizon


@contextmanager
def _without_gradient(module: nn.Module) -> Iterator[None]:
    """Let no weight need a gradient for a while."""
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
