"""Imagination's loop reads no value and draws from its source only: so it can be recorded, and replayed with new numbers."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine, played, replayed_loop
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.behaviour.replayed import Replayed
from irisflow.randomness import CountedNoise, DrawnNoise, Source, sample_categorical
from irisflow.records import Batch, Rollout

BATCH, HORIZON = 3, 3
TRACED = ["iris", "prediction_parallel", "prediction_masked"]


def build(variant: str = "iris") -> Agent:
    torch.manual_seed(0)
    settings = params.settings_from(["scale=smoke", f"variant={variant}"])
    return build_agent(settings, num_actions=3, full_action_ids=[4, 0, 3]).eval()


def inputs_for(agent: Agent, seed: int = 0) -> tuple[Tensor, ...]:
    draws = torch.Generator().manual_seed(seed)
    tokens = torch.randint(
        agent.tokenizer.vocab_size, (BATCH, agent.tokenizer.tokens_per_frame), generator=draws
    )
    start = agent.actor_critic.initial_state(BATCH)
    return tokens, agent.view(tokens), start.hidden, start.cell


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers_for(agent: Agent, seed: int = 1) -> Tensor:
    counted = CountedNoise(generator())
    played(inputs_for(agent), counted, agent=agent, horizon=HORIZON, shift=0)
    return drawn(counted.num_used, seed)


def drawn(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=generator(seed))


@pytest.mark.slow
def test_the_loop_is_one_graph_without_a_break() -> None:
    """In a process of its own: what checks shapes and types in the tests cannot be traced."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("trace_loop.py"), *TRACED], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == TRACED


def test_a_replay_does_what_the_loop_does_with_the_same_numbers() -> None:
    agent = build()
    replayed, inputs = replayed_loop(agent, horizon=HORIZON), inputs_for(agent)
    found = replayed(inputs, generator(5))
    numbers = drawn(len(numbers_for(agent)), 5)
    expected = played(inputs, DrawnNoise(numbers), agent=agent, horizon=HORIZON, shift=0)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_replay_follows_its_inputs_its_numbers_and_weights_that_changed_in_place() -> None:
    agent = build()
    replayed = replayed_loop(agent, horizon=HORIZON)
    first = replayed(inputs_for(agent), generator())
    kept = [output.clone() for output in first]
    others = [replayed(inputs_for(agent, 1), generator()), replayed(inputs_for(agent), generator(1))]
    with torch.no_grad():
        agent.tokenizer.decoder.conv_out.bias.add_(0.1)
    others.append(replayed(inputs_for(agent), generator()))
    assert all(not torch.equal(first[0], other[0]) for other in others)
    assert all(torch.equal(*pair) for pair in zip(first, kept, strict=True)), (
        "a replay leaves earlier ones alone"
    )


def test_there_is_one_recording_for_each_shape() -> None:
    calls: list[int] = []

    def double(inputs: tuple[Tensor, ...], source: Source) -> tuple[Tensor, ...]:
        calls.append(len(inputs[0]))
        return (inputs[0] * 2 + source.uniform(inputs[0].shape, inputs[0].device),)

    replayed = Replayed(double)
    for size in (2, 3, 2):
        (found,) = replayed((torch.ones(size, dtype=torch.float64),), generator())
        assert_close(found, 2 + drawn(size))
    assert calls == [2, 2, 3, 3, 2], "a recording begins with a call that counts the numbers"


def test_numbers_that_do_not_suffice_are_refused() -> None:
    noise = DrawnNoise(drawn(5))
    sample_categorical(torch.zeros(4, 3), generator=noise)
    with pytest.raises(ValueError, match="8 numbers are wanted, 5 were drawn"):
        sample_categorical(torch.zeros(4, 3), generator=noise)


def batch_for(agent: Agent) -> Batch:
    draws, time = generator(), 4
    tokens = torch.randint(
        agent.tokenizer.vocab_size, (BATCH, time, agent.tokenizer.tokens_per_frame), generator=draws
    )
    zeros, mask = torch.zeros(BATCH, time), torch.ones(BATCH, time, dtype=torch.bool)
    mask[0, :2] = False
    return Batch(None, zeros.long(), zeros, zeros.bool(), mask).with_tokens(tokens)


def test_thinking_of_all_views_together_teaches_what_thinking_of_one_after_another_does() -> None:
    agent = build()
    batch = batch_for(agent)
    rollout = imagine(
        agent, batch, horizon=HORIZON, generator=generator(), loop=replayed_loop(agent, horizon=HORIZON)
    )

    def gradients(of: Rollout) -> list[Tensor]:
        loss = actor_critic_loss(of, gamma=0.99, lambda_=0.95, entropy_weight=0.01).total
        return list(torch.autograd.grad(loss, list(agent.actor_critic.parameters())))

    assert batch.tokens is not None
    state = agent.actor_critic.burn_in(
        agent.view(batch.tokens[:, :-1].flatten(0, 1)).unflatten(0, (BATCH, -1)), batch.mask[:, :-1]
    )
    outputs = []
    for view in rollout.views.unbind(dim=1):
        output, state = agent.actor_critic(view, state)
        outputs.append((output.logits, output.values))
    logits, values = (torch.stack(field, dim=1) for field in zip(*outputs, strict=True))
    one_by_one = replace(rollout, logits=logits, values=values)
    for one, other in zip(gradients(rollout), gradients(one_by_one), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_pictures_that_were_kept_give_the_rollout_that_decoding_gives() -> None:
    agent = build()
    batch = batch_for(agent)
    assert batch.tokens is not None
    kept = batch.with_tokens(batch.tokens, agent.tokenizer.decode(batch.tokens))
    one, other = (imagine(agent, given, horizon=HORIZON, generator=generator()) for given in (batch, kept))
    assert torch.equal(one.actions, other.actions)
    for name in ("views", "logits", "values"):
        assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: counts what waits for it")
def test_nothing_waits_for_the_gpu_inside_a_replayed_rollout() -> None:
    agent = build().to("cuda")
    loop, draws = replayed_loop(agent, horizon=HORIZON), torch.Generator("cuda").manual_seed(0)
    inputs = tuple(tensor.to("cuda") for tensor in inputs_for(build()))
    loop(inputs, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = loop(inputs, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state = draws.get_state()
    expected = partial(played, agent=agent, horizon=HORIZON, shift=0)
    again = loop(inputs, draws)
    draws.set_state(state)
    numbers = torch.rand(len(numbers_for(build())), dtype=torch.float64, device="cuda", generator=draws)
    for one, other in zip(again, expected(inputs, DrawnNoise(numbers)), strict=True):
        assert_close(one, other)
    assert len(found) == len(again)
