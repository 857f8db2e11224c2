"""Rollouts inside the world model. IRIS, section 2.3."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.behaviour.agent import Agent
from irisflow.randomness import sample_categorical
from irisflow.records import Batch, Rollout

FRAMES_AT_ONCE = 64  # bounds the memory that reconstructing the burn-in takes


def imagine(
    agent: Agent,
    batch: Batch,
    *,
    horizon: int,
    generator: torch.Generator,
    sees_foreign_frames: bool = False,
) -> Rollout:
    """Return what the policy does and gets in `horizon` imagined steps from the last frame of each segment.

    Segments are padded on the left; the frames before the last one burn in the policy. Gradients flow through
    the policy only. Imagination does not stop at an imagined end. `sees_foreign_frames` is a negative control: the
    policy sees the frames of another segment of the batch. Raises ValueError if that has only one segment, or if the
    tokenizer or the world model is not in eval mode.
    """
    if agent.tokenizer.training or agent.world_model.training:
        raise ValueError("imagination needs tokenizer and world model in eval mode: call .eval() on both")
    past = agent.tokenizer.encode(batch.observations) if batch.tokens is None else batch.tokens
    if sees_foreign_frames and len(batch.mask) == 1:
        raise ValueError("foreign frames need a batch of 2 segments or more: this one has 1")
    shift = int(sees_foreign_frames)
    earlier, mask = past[:, :-1].roll(shift, 0), batch.mask[:, :-1].roll(shift, 0)
    policy_state = agent.actor_critic.burn_in(view_valid(agent, earlier, mask), mask)
    tokens = past[:, -1]
    state = agent.world_model.observe(None, tokens[:, None], batch.actions[:, :0])
    steps = []
    for step in range(horizon):
        views = agent.view(tokens).roll(shift, 0)
        output, policy_state = agent.actor_critic(views, policy_state)
        actions = sample_categorical(output.logits.detach(), generator=generator)
        prediction, state = agent.world_model.imagine(
            state, actions, generator=generator, predict_frame=step + 1 < horizon
        )
        tokens = tokens if prediction.tokens is None else prediction.tokens
        steps.append(
            (
                views,
                actions,
                output.logits.float(),
                output.values.float(),
                prediction.rewards,
                prediction.ends,
            )
        )
    return Rollout(*(torch.stack(field, dim=1) for field in zip(*steps, strict=True)))


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
