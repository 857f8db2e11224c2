"""Other numbers of tokens and codes: everything that follows the tokenizer follows them, from params alone."""

import numpy as np
import pytest
import torch
from parts import NUM_ACTIONS, configured

from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.toy import Catch
from irisflow.evaluation.world_model_quality import (
    examine,
    open_loop,
    open_loop_quality,
    tokenizer_quality,
    yardsticks,
)
from irisflow.records import Batch
from irisflow.training.losses import encoded

SIZES = {  # variant: tokens a frame and codes, at scale `smoke`
    "iris": (16, 32),
    "tokens_64": (64, 32),
    "quantizer_residual_vq": (32, 32),
    "codebook_small": (16, 8),
    "codebook_large": (16, 128),
}


def build(variant: str) -> Agent:
    torch.manual_seed(0)
    return build_agent(configured(f"variant={variant}"), num_actions=NUM_ACTIONS).eval()


def batch(num_steps: int = 3) -> Batch:
    """Return two segments of a game of noise."""
    pictures = torch.rand(2, num_steps, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(2, num_steps)
    return Batch(pictures, zeros.long(), zeros, zeros.bool(), zeros == 0)


@pytest.mark.parametrize("variant", SIZES)
def test_a_frame_has_as_many_tokens_and_a_token_as_many_values_as_params_say(variant: str) -> None:
    agent, (num_tokens, num_codes) = build(variant), SIZES[variant]
    assert agent.tokenizer.encode(batch().observations).shape == (2, 3, num_tokens)
    assert agent.tokenizer.vocab_size == num_codes
    assert configured(f"variant={variant}").world_model.tokens_per_block == num_tokens + 1


@pytest.mark.parametrize("variant", ["tokens_64", "quantizer_residual_vq"])
def test_the_world_model_learns_and_imagines_longer_frames(variant: str) -> None:
    agent = build(variant)
    loss = agent.world_model.train().loss(encoded(agent.tokenizer, batch()))
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in agent.world_model.parameters())
    agent.eval()
    rollout = imagine(agent, batch(), horizon=3, generator=torch.Generator().manual_seed(0))
    assert rollout.actions.shape == rollout.rewards.shape == (2, 3)
    assert rollout.values.isfinite().all()


@pytest.mark.parametrize("variant", ["tokens_64", "quantizer_residual_vq"])
def test_open_loop_forecasts_of_longer_frames_are_measured(variant: str) -> None:
    agent = build(variant)
    episodes = record_episodes(Catch(size=64), RandomPolicy(3, np.random.default_rng(0)), 18, seed=0)
    settings = {"window": 4, "time_limit_is_end": True, "device": torch.device("cpu")}
    held_to = yardsticks(episodes, device=settings["device"])
    examined = examine(agent.tokenizer, agent.world_model, episodes, held_to, **settings)
    loop = open_loop(
        examined, context=2, num_starts=2, num_samples=1, generator=torch.Generator().manual_seed(0)
    )
    assert loop is not None
    errors = {each.horizon: each.value for each in open_loop_quality(loop) if each.metric == "open_psnr"}
    assert sorted(errors) == [1, 2]
    assert all(np.isfinite(value) for value in errors.values())
    assert all(np.isfinite(each.value) for each in tokenizer_quality(examined))
