"""A policy that sees codes instead of pictures."""

import pytest
import torch
from parts import CODE_MAP, build_policy, configured
from torch.testing import assert_close

from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.envs.toy import Catch
from irisflow.evaluation.play import AgentPlayer, play_episodes
from irisflow.records import Batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def agent() -> Agent:
    """An agent with as many actions as Catch has."""
    torch.manual_seed(0)
    settings = configured("variant=policy_on_tokens", "env.train.id=Catch")
    return build_agent(settings, num_actions=Catch(size=64).num_actions).eval()


def segments() -> Batch:
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[0, :2] = False
    images = torch.rand(2, 4, 3, 64, 64, generator=generator()) * mask[..., None, None, None]
    zeros = torch.zeros(2, 4)
    return Batch(images, zeros.long(), zeros, zeros.bool(), mask)


def forbid_decoding(agent: Agent) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a picture was decoded")

    agent.tokenizer.decoder.register_forward_pre_hook(refuse)


def test_it_sees_the_codes_of_the_tokens_on_their_grid(agent: Agent) -> None:
    frames = torch.rand(3, 3, 64, 64, generator=generator())
    tokens = agent.tokenizer.encode(frames)
    assert agent.seen(frames).shape == (3, *CODE_MAP)
    assert_close(agent.seen(frames), agent.tokenizer.embed(tokens))
    assert_close(agent.seen((frames * 255).byte()), agent.seen((frames * 255).byte() / 255))


def test_it_acts_imagines_and_learns_without_decoding_a_picture(agent: Agent) -> None:
    forbid_decoding(agent)
    acting = {"temperature": 1.0, "epsilon": 0.0, "should_sample": True}
    actions, _, state = agent.act(segments().observations[:, 0], None, **acting, generator=generator())
    agent.act(segments().observations[:, 1], state, **acting, generator=generator())
    assert actions.shape == (2,)
    rollout = imagine(agent, segments(), horizon=3, generator=generator())
    assert rollout.views.shape == (2, 3, *CODE_MAP)
    actor_critic_loss(rollout, gamma=0.9, lambda_=0.9, entropy_weight=0.01).total.backward()
    policy = agent.get_submodule("actor_critic")
    assert [n for n, p in policy.named_parameters() if p.grad is None or not p.grad.any()] == []
    others = [*agent.tokenizer.parameters(), *agent.world_model.parameters()]
    assert all(parameter.grad is None for parameter in others)


def test_the_size_of_a_codebook_does_not_matter() -> None:
    torch.manual_seed(0)
    policy = build_policy("cnn_lstm_tokens")
    codes = torch.randn(2, *CODE_MAP, generator=generator())
    logits = [policy(size * codes, policy.initial_state(2))[0].logits for size in (1, 50)]
    assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-4)
    other, _ = policy(codes.flip(3), policy.initial_state(2))
    assert (other.logits - logits[0]).abs().max() > 1e-4, "places matter"


def test_it_plays_whole_games_in_the_evaluation(agent: Agent) -> None:
    settings = configured("variant=policy_on_tokens", "env.test.id=Catch", "env.train.id=Catch")
    played = play_episodes(
        AgentPlayer(agent),
        settings.env.test,
        num_episodes=2,
        num_envs=2,
        temperature=0.5,
        epsilon=0.0,
        seed=0,
        parallel=False,
    )
    assert [episode.length > 1 for episode in played] == [True, True]
