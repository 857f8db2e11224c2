"""Every variant's world model and imagination on a GPU that is not there: torch follows shapes and devices only.

A tensor that was made on another device raises, and so does one whose value would have to be known on the CPU.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import played
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.records import Rollout, TokenBatch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.version.cuda is None, reason="this torch was built without CUDA"),
]
GPU, BATCH, TIME = "cuda", 2, 3


class WithoutGenerators(TorchFunctionMode):
    """Leaves generators out of all calls: fake tensors have none."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **{name: value for name, value in (kwargs or {}).items() if name != "generator"})


def on_gpu(agent: Agent) -> Agent:
    """Return the agent with all its tensors replaced by fake ones on the GPU."""
    for module in agent.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                new = torch.empty(parameter.shape, dtype=parameter.dtype, device=GPU)
                module._parameters[name] = nn.Parameter(new, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU)
    return agent


def imagined(agent: Agent, tokens: torch.Tensor) -> Rollout:
    """Return a rollout of three steps, as `imagine` makes it after the burn-in."""
    start = agent.actor_critic.initial_state(BATCH)
    inputs = (tokens[:, -1], agent.view(tokens[:, -1]), start.hidden, start.cell)
    steps = played(inputs, torch.Generator(), agent=agent, horizon=TIME, shift=0)
    views, actions, rewards, ends = steps
    return Rollout(views, actions, *agent.actor_critic.sequence(views, start), rewards, ends)


def build(variant: str) -> Agent:
    settings = params.settings_from(["scale=smoke", f"variant={variant}"])
    return build_agent(settings, num_actions=3, full_action_ids=[4, 0, 3]).eval()


def frames(agent: Agent) -> torch.Tensor:
    return torch.zeros(BATCH, TIME, agent.tokenizer.tokens_per_frame, dtype=torch.long, device=GPU)


@pytest.mark.parametrize("variant", params.names("variant"))
def test_nothing_is_made_elsewhere_and_nothing_leaves_the_gpu(variant: str) -> None:
    agent = build(variant)
    with FakeTensorMode(), WithoutGenerators(), torch.backends.cudnn.flags(enabled=False):
        agent = on_gpu(agent)
        tokens = frames(agent)
        zeros = torch.zeros(BATCH, TIME, device=GPU)
        batch = TokenBatch(tokens, zeros.long(), zeros, zeros.bool(), zeros == 0)
        loss = agent.world_model.train().loss(batch)
        agent.world_model.eval()
        rollout = imagined(agent, tokens)
        policy_loss = actor_critic_loss(rollout, gamma=0.9, lambda_=0.9, entropy_weight=0.1)
    devices = {value.device.type for value in (loss.total, policy_loss.total, rollout.views, rollout.rewards)}
    assert devices == {GPU}


def test_a_weight_on_the_cpu_is_noticed() -> None:
    agent = build("iris")
    with FakeTensorMode(), WithoutGenerators():
        agent = on_gpu(agent)
        agent.world_model.backbone.positions.weight = nn.Parameter(torch.empty(68, 32))
        with pytest.raises(RuntimeError, match="device"):
            imagined(agent, frames(agent))


def test_a_value_that_leaves_the_gpu_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(1, device=GPU).item()
