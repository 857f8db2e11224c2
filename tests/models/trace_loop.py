"""Trace imagination's loop of the named variants as one graph; print each name that traces and computes the same."""

import sys

import torch
from torch import Tensor

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import played
from irisflow.plainly import as_torch_does
from irisflow.randomness import CountedNoise, DrawnNoise

BATCH, HORIZON = 3, 2


def main(variants: list[str]) -> None:
    """Raise where torch.compile finds a break, or the traced loop computes something else."""
    torch.set_num_threads(1)
    torch._dynamo.config.allow_rnn = True  # as one call of the library
    for variant in variants:
        settings = params.settings_from(["scale=smoke", f"variant={variant}"])
        check(build_agent(settings, num_actions=3, full_action_ids=[4, 0, 3]).eval())
        print(variant)


def check(agent: Agent) -> None:
    """Compare the traced loop with the loop on inputs and numbers that it was not traced with."""
    counted = CountedNoise(torch.Generator())
    played(inputs_for(agent), counted, agent=agent, horizon=HORIZON, shift=0)

    def loop(inputs: tuple[Tensor, ...], numbers: Tensor) -> tuple[Tensor, ...]:
        return played(inputs, DrawnNoise(numbers), agent=agent, horizon=HORIZON, shift=0)

    traced = torch.compile(loop, fullgraph=True, backend="eager")
    for _ in range(2):
        inputs, numbers = inputs_for(agent), torch.rand(counted.num_used, dtype=torch.float64)
        with as_torch_does():  # which is what a traced loop does
            expected = loop(inputs, numbers)
        for one, other in zip(traced(inputs, numbers), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def inputs_for(agent: Agent) -> tuple[Tensor, ...]:
    """Return a random frame's tokens and view, and the policy's first state."""
    tokens = torch.randint(agent.tokenizer.vocab_size, (BATCH, agent.tokenizer.tokens_per_frame))
    start = agent.actor_critic.initial_state(BATCH)
    return tokens, agent.view(tokens), start.hidden, start.cell


if __name__ == "__main__":
    main(sys.argv[1:])
