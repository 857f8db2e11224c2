from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import CODE_MAP, NUM_ACTIONS, build_policy, view_shape
from sizes import FULL_POLICY, agent_settings
from torch import Tensor, nn
from torch.testing import assert_close

from irisflow import schema, variants
from irisflow.behaviour.actor_critics.base import PolicyState
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine, view_valid, with_shuffled_rewards
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.behaviour.returns import lambda_returns
from irisflow.records import Batch, Rollout
from irisflow.training.optim import optimizers


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return build_agent(agent_settings(), num_actions=NUM_ACTIONS).eval()


def left_padded(time: int = 4) -> Batch:
    mask = torch.ones(2, time, dtype=torch.bool)
    mask[0, :2] = False
    images = torch.rand(2, time, 3, 64, 64, generator=generator()) * mask[..., None, None, None]
    zeros = torch.zeros(2, time)
    return Batch(images, zeros.long(), zeros, zeros.bool(), mask)


@pytest.mark.parametrize(("num_actions", "parameters"), [(4, 3_217_957), (18, 3_225_139)])
def test_the_full_policy_has_the_papers_parameters(num_actions: int, parameters: int) -> None:
    policy = variants.build(
        "actor_critic", FULL_POLICY, num_actions=num_actions, resolution=64, code_map=CODE_MAP
    )
    assert sum(parameter.numel() for parameter in policy.parameters()) == parameters


@pytest.mark.parametrize("name", variants.available("actor_critic"))
def test_burning_in_equals_stepping_and_masked_rows_keep_their_state(name: str) -> None:
    torch.manual_seed(0)
    policy, mask = build_policy(name), left_padded().mask
    views = torch.rand(2, 4, *view_shape(policy))
    burnt_in = policy.burn_in(views, mask)
    state = policy.initial_state(1)
    for seen in views[:1, 2:].unbind(1):
        _, state = policy(seen, state)
    assert_close(burnt_in.hidden[:1], state.hidden)
    assert_close(burnt_in.cell[:1], state.cell)
    assert not burnt_in.hidden.requires_grad
    half = policy.burn_in(views[:, :2], mask[:, :2])
    assert_close(policy.burn_in(views[:, 2:], mask[:, 2:], half).hidden, burnt_in.hidden)


@pytest.mark.parametrize("name", variants.available("actor_critic"))
def test_the_policy_returns_logits_and_values_that_all_its_weights_decide(name: str) -> None:
    policy = build_policy(name)
    state = policy.burn_in(torch.rand(3, 1, *view_shape(policy)), torch.ones(3, 1, dtype=torch.bool))
    output, _ = policy(torch.rand(3, *view_shape(policy)), state)
    assert output.logits.shape == (3, NUM_ACTIONS)
    assert output.values.shape == (3,)
    (output.logits.square().sum() + output.values.square().sum()).backward()
    assert [n for n, p in policy.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_lambda_returns_of_three_steps_by_hand() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[9.0, 4.0, 8.0]])
    setting = {"gamma": 0.5, "lambda_": 0.5}
    nothing_ends, second_ends = torch.zeros(1, 3).bool(), torch.tensor([[False, True, True]])
    assert lambda_returns(rewards, values, nothing_ends, **setting).tolist() == [[3.5, 6.0, 8.0]]
    assert lambda_returns(rewards, values, second_ends, **setting).tolist() == [[2.5, 2.0, 8.0]]


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_lambda_returns_are_the_weighted_mean_of_n_step_returns(
    horizon: int, gamma: float, lambda_: float, seed: int
) -> None:
    draws = generator(seed)
    rewards, values = torch.randn(2, 1, horizon, generator=draws, dtype=torch.float64)
    ends = torch.rand(1, horizon, generator=draws) < 0.2
    returns = lambda_returns(rewards, values, ends, gamma=gamma, lambda_=lambda_)
    for first in range(horizon):
        assert returns[0, first].item() == pytest.approx(
            by_definition(rewards[0], values[0], ends[0], first, gamma, lambda_), abs=1e-6
        )


def by_definition(
    rewards: Tensor, values: Tensor, ends: Tensor, first: int, gamma: float, lambda_: float
) -> float:
    """Return the mean of the n-step returns: weight (1 - lambda) lambda^(n-1), the last one gets the rest."""
    longest = len(values) - 1 - first
    if longest == 0:
        return values[first].item()
    total = 0.0
    for n in range(1, longest + 1):
        weight = (1 - lambda_) * lambda_ ** (n - 1) if n < longest else lambda_ ** (n - 1)
        total += weight * n_step(rewards, values, ends, first, n, gamma)
    return total


def n_step(rewards: Tensor, values: Tensor, ends: Tensor, first: int, n: int, gamma: float) -> float:
    total, discount = 0.0, 1.0
    for step in range(first, first + n):
        total += discount * rewards[step].item()
        discount *= gamma * (not ends[step])
    return total + discount * values[first + n].item()


def rollout_of(logits: Tensor, values: Tensor) -> Rollout:
    batch, horizon = values.shape
    return Rollout(
        views=torch.zeros(batch, horizon, 3, 1, 1),
        actions=torch.zeros(batch, horizon, dtype=torch.long),
        logits=logits,
        values=values,
        rewards=torch.ones(batch, horizon),
        ends=torch.zeros(batch, horizon, dtype=torch.bool),
    )


def test_the_losses_by_hand() -> None:
    rollout = rollout_of(torch.zeros(1, 2, 2), torch.tensor([[3.0, 4.0]]))
    loss = actor_critic_loss(rollout, gamma=0.5, lambda_=0.95, entropy_weight=0.1)
    log2 = 0.6931472
    terms = {name: term.item() for name, term in loss.terms.items()}
    assert terms == pytest.approx(
        {"actor": log2 * (3.0 - 3.0), "value": 0.0, "entropy": -0.1 * log2}, abs=1e-6
    )
    loss = actor_critic_loss(rollout, gamma=1.0, lambda_=0.95, entropy_weight=0.1)
    assert loss.terms["actor"].item() == pytest.approx(log2 * (5.0 - 3.0))
    assert loss.terms["value"].item() == pytest.approx(4.0)


def test_the_actor_loss_does_not_move_the_critic_nor_the_last_step_anything() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    values = torch.randn(2, 3, requires_grad=True)
    loss = actor_critic_loss(rollout_of(logits, values), gamma=0.9, lambda_=0.9, entropy_weight=0.1)
    assert torch.autograd.grad(loss.terms["actor"], values, retain_graph=True, allow_unused=True) == (None,)
    by_logits, by_values = torch.autograd.grad(loss.total, [logits, values])
    assert by_logits[:, :-1].any() and by_values[:, :-1].any()
    assert not by_logits[:, -1].any() and not by_values[:, -1].any()


def test_gradients_of_imagination_reach_the_policy_only(agent: Agent) -> None:
    rollout = imagine(agent, left_padded(), horizon=3, generator=generator())
    actor_critic_loss(rollout, gamma=0.99, lambda_=0.95, entropy_weight=0.01).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in agent.actor_critic.parameters())
    frozen = [*agent.tokenizer.parameters(), *agent.world_model.parameters()]
    assert all(parameter.grad is None for parameter in frozen)


def test_a_rollout_starts_at_the_segments_last_frame_reconstructed(agent: Agent) -> None:
    batch = left_padded()
    rollout = imagine(agent, batch, horizon=3, generator=generator())
    assert_close(rollout.views[:, 0], agent.tokenizer.reconstruct(batch.observations[:, -1]))
    assert rollout.logits.shape == (2, 3, NUM_ACTIONS)
    assert set(rollout.rewards.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert rollout.views.min() >= 0 and rollout.views.max() <= 1


def test_the_policy_in_imagination_was_burnt_in_on_reconstructions(agent: Agent) -> None:
    batch = left_padded()
    rollout = imagine(agent, batch, horizon=2, generator=generator())
    seen = agent.tokenizer.reconstruct(batch.observations)
    state = agent.actor_critic.burn_in(seen[:, :-1], batch.mask[:, :-1])
    output, _ = agent.actor_critic(seen[:, -1], state)
    assert_close(rollout.logits[:, 0], output.logits)
    assert_close(rollout.values[:, 0], output.values)


def test_imagination_without_any_past_starts_from_zeros(agent: Agent) -> None:
    batch = left_padded(time=3)
    alone = Batch(
        batch.observations[:1], batch.actions[:1], batch.rewards[:1], batch.ends[:1], batch.mask[:1]
    )
    rollout = imagine(agent, alone, horizon=2, generator=generator())
    seen = agent.tokenizer.reconstruct(alone.observations[:, -1])
    output, _ = agent.actor_critic(seen, agent.actor_critic.initial_state(1))
    assert_close(rollout.logits[:, 0], output.logits)


def test_a_segment_of_one_frame_has_no_past_to_burn_in(agent: Agent) -> None:
    alone = left_padded(time=3)
    last = Batch(
        *(getattr(alone, name)[:, -1:] for name in ("observations", "actions", "rewards", "ends", "mask"))
    )
    rollout = imagine(agent, last, horizon=2, generator=generator())
    seen = agent.tokenizer.reconstruct(last.frames[:, -1])
    output, _ = agent.actor_critic(seen, agent.actor_critic.initial_state(2))
    assert_close(rollout.logits[:, 0], output.logits)


def test_padding_is_not_reconstructed(agent: Agent) -> None:
    batch = left_padded()
    tokens = agent.tokenizer.encode(batch.observations)
    reconstructed = view_valid(agent, tokens, batch.mask)
    assert not reconstructed[~batch.mask].any()
    assert_close(reconstructed[1], agent.tokenizer.reconstruct(batch.observations[1]))


def test_the_same_seed_imagines_the_same_rollout(agent: Agent) -> None:
    one, same, other = (imagine(agent, left_padded(), horizon=3, generator=generator(s)) for s in (0, 0, 1))
    assert torch.equal(one.views, same.views)
    assert torch.equal(one.actions, same.actions)
    assert not torch.equal(one.views, other.views)


def test_imagination_in_training_mode_is_refused(agent: Agent) -> None:
    agent.world_model.train()
    with pytest.raises(ValueError, match="eval mode"):
        imagine(agent, left_padded(), horizon=2, generator=generator())


ACTING = {"temperature": 1.0, "epsilon": 0.0, "should_sample": True}


def act(agent: Agent, observations: Tensor, seed: int = 0, **changes: float) -> tuple[Tensor, Tensor]:
    actions, output, _ = agent.act(observations, None, **(ACTING | changes), generator=generator(seed))
    return actions, output.logits


def test_the_agent_sees_reconstructions_unless_told_otherwise(agent: Agent) -> None:
    frames = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator())
    _, logits = act(agent, frames)
    policy, initial = agent.actor_critic, agent.actor_critic.initial_state(2)
    assert_close(logits, policy(agent.tokenizer.reconstruct(frames / 255), initial)[0].logits)
    assert_close(act(agent, frames / 255)[1], logits)
    policy.use_original_obs = True
    assert_close(act(agent, frames)[1], policy(frames / 255, initial)[0].logits)


def test_the_state_of_acting_goes_on(agent: Agent) -> None:
    frames = torch.rand(2, 3, 64, 64, generator=generator())
    _, _, state = agent.act(frames, None, **ACTING, generator=generator())
    _, output, _ = agent.act(frames, state, **ACTING, generator=generator())
    assert isinstance(state, PolicyState)
    assert not torch.equal(output.logits, act(agent, frames)[1])


def test_a_low_temperature_and_not_sampling_take_the_likeliest_action(agent: Agent) -> None:
    nn.init.normal_(agent.actor_critic.actor.weight)
    frames = torch.rand(8, 3, 64, 64, generator=generator())
    likeliest = act(agent, frames)[1].argmax(-1)
    assert torch.equal(act(agent, frames, temperature=1e-6)[0], likeliest)
    assert torch.equal(act(agent, frames, should_sample=False)[0], likeliest)


def test_epsilon_is_one_draw_for_the_whole_batch(agent: Agent) -> None:
    nn.init.constant_(agent.actor_critic.actor.bias, -100.0)
    with torch.no_grad():
        agent.actor_critic.actor.bias[2] = 100.0
    frames = torch.rand(6, 3, 64, 64, generator=generator())
    explored = [not (act(agent, frames, seed, epsilon=0.5)[0] == 2).all() for seed in range(40)]
    mixed = act(agent, frames, epsilon=1.0)[0]
    assert 8 < sum(explored) < 32
    assert len(mixed.unique()) > 2
    assert (act(agent, frames, epsilon=0.0)[0] == 2).all()


def test_there_is_one_optimizer_per_component_and_only_the_world_model_decays(agent: Agent) -> None:
    rates = {"tokenizer": 1e-3, "world_model": 2e-3, "actor_critic": 3e-3}
    training = schema.Training(
        tokenizer=schema.ComponentTraining(learning_rate=rates["tokenizer"]),
        world_model=schema.WorldModelTraining(learning_rate=rates["world_model"], weight_decay=0.02),
        actor_critic=schema.ActorCriticTraining(learning_rate=rates["actor_critic"]),
    )
    found = optimizers(agent, training)
    kinds = {name: type(optimizer).__name__ for name, optimizer in found.items()}
    assert kinds == {"tokenizer": "Adam", "world_model": "AdamW", "actor_critic": "Adam"}
    decays = {name: [g["weight_decay"] for g in optimizer.param_groups] for name, optimizer in found.items()}
    assert decays == {"tokenizer": [0], "world_model": [0.02, 0.0], "actor_critic": [0]}
    optimized = {id(p) for o in found.values() for group in o.param_groups for p in group["params"]}
    assert optimized == {id(parameter) for parameter in agent.parameters()}
    assert all(group["lr"] == rates[name] for name, o in found.items() for group in o.param_groups)


def test_shuffled_rewards_are_the_same_rewards_elsewhere(agent: Agent) -> None:
    rollout = imagine(agent, left_padded(), horizon=3, generator=generator())
    rewards = torch.arange(6.0).reshape(2, 3)
    rollout = replace(rollout, rewards=rewards)
    shuffled = with_shuffled_rewards(rollout, generator=generator())
    assert torch.equal(shuffled.rewards.flatten().sort().values, rewards.flatten())
    assert not torch.equal(shuffled.rewards, rewards)
    assert torch.equal(shuffled.actions, rollout.actions)


def test_foreign_frames_are_those_of_the_next_segment(agent: Agent) -> None:
    batch = left_padded()
    own = imagine(agent, batch, horizon=1, generator=generator())
    foreign = imagine(agent, batch, horizon=1, generator=generator(), sees_foreign_frames=True)
    assert torch.equal(foreign.views, own.views.flip(0))
    assert_close(foreign.logits, own.logits.flip(0))


def test_one_segment_alone_has_no_foreign_frames(agent: Agent) -> None:
    batch = left_padded()
    alone = Batch(
        *(getattr(batch, name)[1:] for name in ("observations", "actions", "rewards", "ends", "mask"))
    )
    with pytest.raises(ValueError, match="2 segments or more"):
        imagine(agent, alone, horizon=1, generator=generator(), sees_foreign_frames=True)
    assert imagine(agent, alone, horizon=1, generator=generator()).actions.shape == (1, 1)
