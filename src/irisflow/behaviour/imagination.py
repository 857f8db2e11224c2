"""Rollouts inside the world model. IRIS, section 2.3."""

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.behaviour.actor_critics.base import PolicyState
from irisflow.behaviour.agent import Agent
from irisflow.behaviour.replayed import Replayed
from irisflow.randomness import Source, sample_categorical
from irisflow.records import Batch, Rollout

FRAMES_AT_ONCE = 64  # bounds the memory that reconstructing the burn-in takes


def imagine(
    agent: Agent,
    batch: Batch,
    *,
    horizon: int,
    generator: torch.Generator,
    sees_foreign_frames: bool = False,
    loop: Replayed | None = None,
) -> Rollout:
    """Return what the policy does and gets in `horizon` imagined steps from the last frame of each segment.

    Segments are padded on the left; the frames before the last one burn in the policy. Gradients flow through
    the policy only. Imagination does not stop at an imagined end. `sees_foreign_frames` is a negative control: the
    policy sees the frames of another segment of the batch. `loop` is of `replayed_loop`, of the same agent and settings.
    Raises ValueError if a batch for foreign frames has only one segment, or if the tokenizer or the world model is not in
    eval mode.
    """
    if agent.tokenizer.training or agent.world_model.training:
        raise ValueError("imagination needs tokenizer and world model in eval mode: call .eval() on both")
    if sees_foreign_frames and len(batch.mask) == 1:
        raise ValueError("foreign frames need a batch of 2 segments or more: this one has 1")
    shift = int(sees_foreign_frames)
    tokens, seen = _seen(agent, batch)
    seen, mask = seen.roll(shift, 0), batch.mask.roll(shift, 0)
    start = agent.actor_critic.burn_in(seen[:, :-1], mask[:, :-1])
    inputs = (tokens[:, -1], seen[:, -1], start.hidden, start.cell)
    if loop is None:
        views, actions, rewards, ends = played(inputs, generator, agent=agent, horizon=horizon, shift=shift)
    else:
        views, actions, rewards, ends = loop(inputs, generator)
    logits, values = agent.actor_critic.sequence(views, start)
    return Rollout(views, actions, logits.float(), values.float(), rewards, ends)


def replayed_loop(agent: Agent, *, horizon: int, sees_foreign_frames: bool = False) -> Replayed:
    """Return what imagination's loop does, recorded when it is first wanted: see `Replayed`."""
    return Replayed(partial(played, agent=agent, horizon=horizon, shift=int(sees_foreign_frames)))


def _seen(
    agent: Agent, batch: Batch
) -> tuple[Int64[Tensor, "batch time tokens"], Float[Tensor, "batch time channels height width"]]:
    """Return the tokens of a batch and what the policy sees of them: what was made already is taken as it is."""
    tokens = agent.tokenizer.encode(batch.frames) if batch.tokens is None else batch.tokens
    if batch.pictures is not None and agent.actor_critic.sees == "pictures":
        return tokens, batch.pictures
    return tokens, view_valid(agent, tokens, batch.mask)


@torch.no_grad()
def played(
    inputs: tuple[Tensor, ...], generator: Source, *, agent: Agent, horizon: int, shift: int
) -> tuple[Tensor, ...]:
    """Return views, actions, rewards and ends, (batch, horizon, ...), from a frame's tokens and view and a policy's state.

    The loop holds no gradient and reads no value, so that a GPU can be ahead of Python, or replay it. What the policy thinks
    of the views is worked out again afterwards, all steps together, with its gradient.
    """
    tokens, view, hidden, cell = inputs
    policy_state = PolicyState(hidden, cell)
    state = agent.world_model.observe(None, tokens[:, None], tokens[:, :0])
    steps = []
    for step in range(horizon):
        output, policy_state = agent.actor_critic(view, policy_state)
        actions = sample_categorical(output.logits, generator=generator)
        is_last = step + 1 == horizon
        prediction, state = agent.world_model.imagine(
            state, actions, generator=generator, predict_frame=not is_last
        )
        steps.append((view, actions, prediction.rewards, prediction.ends))
        if prediction.tokens is not None:
            view = agent.view(prediction.tokens).roll(shift, 0)
    return tuple(torch.stack(field, dim=1) for field in zip(*steps, strict=True))


def with_shuffled_rewards(rollout: Rollout, *, generator: torch.Generator) -> Rollout:
    """Return the rollout with its rewards dealt out anew among all its steps: a negative control."""
    order = torch.randperm(rollout.rewards.numel(), generator=generator, device=rollout.rewards.device)
    return replace(rollout, rewards=rollout.rewards.flatten()[order].view_as(rollout.rewards))


@torch.no_grad()
def view_valid(
    agent: Agent, tokens: Int64[Tensor, "batch time tokens"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time channels height width"]:
    """Return what the policy sees of the tokens where the mask is true, zeros elsewhere."""
    valid = tokens[mask]
    pieces = torch.split(valid, FRAMES_AT_ONCE) if len(valid) else [tokens.new_zeros(1, tokens.shape[-1])]
    seen = torch.cat([agent.view(piece) for piece in pieces])
    views = seen.new_zeros(*mask.shape, *seen.shape[1:])
    views[mask] = seen[: len(valid)]
    return views
