"""The arithmetic of an imagined frame is what its layers say."""

import pytest
import torch

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.convolution import Conv3x3
from irisflow.evaluation.arithmetic import FlopCounter, imagined_frame_flops
from irisflow.linear import Linear
from irisflow.params import Choice


def agent_of(*overrides: str, variant: str = "iris") -> Agent:
    torch.manual_seed(0)
    composed = params.compose(Choice("smoke", variant=variant, overrides=("env.train.id=Catch", *overrides)))
    settings = params.stage_settings("train_agent", composed)
    return build_agent(settings, num_actions=3, full_action_ids=None).eval()


def counted(agent: Agent, horizon: int) -> float:
    return imagined_frame_flops(agent, horizon=horizon, generator=torch.Generator().manual_seed(0))


def test_a_pass_more_costs_what_the_world_models_matrices_and_attention_cost() -> None:
    """Two rollouts that differ by one frame: its K tokens each meet every weight of the blocks once."""
    agent = agent_of()
    frame = 3 * counted(agent, 3) - 2 * counted(agent, 2)
    weights = [
        module.weight.numel()
        for module in agent.world_model.backbone.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    least = 2 * sum(weights) * agent.tokenizer.tokens_per_frame
    decoder = sum(
        module.weight.numel()
        for module in agent.tokenizer.decoder.modules()
        if isinstance(module, torch.nn.Conv2d)
    )
    assert frame > least + 2 * decoder, "a decoder's kernel is used at 16 places or more"


@pytest.mark.parametrize("key", ["world_model.num_layers=4", "tokenizer.decoder.config.num_res_blocks=4"])
def test_more_layers_cost_more_and_counting_again_gives_the_same(key: str) -> None:
    assert counted(agent_of(key), 3) > counted(agent_of(), 3) == counted(agent_of(), 3)


@pytest.mark.parametrize(
    "variant",
    [
        "prediction_parallel",
        "prediction_parallel_retnet",
        "prediction_masked",
        "backbone_mamba",
        "backbone_gru",
    ],
)
def test_every_kind_of_rollout_is_counted(variant: str) -> None:
    assert counted(agent_of(variant=variant), 3) > counted(agent_of(variant=variant), 2) > 0


def test_what_a_kernel_computes_is_counted_as_torch_computes_it() -> None:
    layer, rows = Linear(256, 512), torch.randn(64, 256)
    convolution = Conv3x3(16, 32)
    maps = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounter() as counted:
        layer(rows), convolution(maps)
    assert counted.by_operator.total() == 2 * 64 * 256 * 512 + 2 * 2 * 64 * 9 * 16 * 32
