"""The slow ways: IRIS's text followed word by word, as an oracle for the fast ways and to be timed beside them.

Only public pieces of tokenizer, world model and actor-critic are used; each is called where the text calls it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow import schema
from irisflow.behaviour.actor_critics.base import PolicyState
from irisflow.behaviour.agent import Agent
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.bench.plain_replay import sample
from irisflow.data.replay import ReplayBuffer
from irisflow.plainly import as_torch_does
from irisflow.randomness import sample_categorical
from irisflow.records import Batch, Loss, Rollout, TokenBatch
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.training.losses import frames_of, sample_rule
from irisflow.world_model.backbones.base import Memory
from irisflow.world_model.prediction.autoregressive import Autoregressive
from irisflow.world_model.world_model import State, WorldModel

LAYOUT = "layout"  # which memory format encoder and decoder compute in, where they choose one
Drawn = tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"], Int64[Tensor, "batch tokens"]]


def plain_agent(agent: Agent) -> Agent:
    """Return an agent with the same world model and actor-critic, and a copy of the tokenizer in torch's plain layout."""
    return Agent(plain_tokenizer(agent.tokenizer), agent.world_model, agent.actor_critic)


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy whose maps lie one channel after the other, as torch makes them unless told otherwise."""
    plain = copy.deepcopy(tokenizer).to(memory_format=torch.contiguous_format)
    for part in (plain.encoder, plain.decoder):
        setattr(part, LAYOUT, torch.contiguous_format)
    assert isinstance(plain, Tokenizer)
    return plain


@as_torch_does()
def imagine(agent: Agent, batch: Batch, *, horizon: int, generator: torch.Generator) -> Rollout:
    """Return what `behaviour.imagination.imagine` returns, computed as IRIS's text says.

    Burn-in frames are encoded and decoded at every batch, the policy's state takes them one step at a time, and every token
    is forwarded by itself. Draws action, reward, end, then tokens; a last frame is drawn from and thrown away.
    """
    state = burned_in(agent, batch)
    tokens = agent.tokenizer.encode(batch.frames[:, -1])
    world = _World(agent.world_model, tokens, generator)
    steps = []
    for step in range(horizon):
        views = agent.view(tokens)
        output, state = agent.actor_critic(views, state)
        actions = sample_categorical(output.logits.detach(), generator=generator)
        rewards, ends, tokens = world.step(actions, is_last=step + 1 == horizon)
        steps.append((views, actions, output.logits.float(), output.values.float(), rewards, ends))
    return Rollout(*(torch.stack(field, dim=1) for field in zip(*steps, strict=True)))


@torch.no_grad()
def burned_in(agent: Agent, batch: Batch) -> PolicyState:
    """Return the policy's state after the frames before the last; a step counts for the rows where it is no padding."""
    frames, mask = batch.frames[:, :-1], batch.mask[:, :-1]
    tokens = agent.tokenizer.encode(frames.flatten(0, 1))
    seen = agent.view(tokens)
    views = seen.view(*frames.shape[:2], *seen.shape[1:])
    state = agent.actor_critic.initial_state(len(frames))
    hidden, cell = state.hidden.clone(), state.cell.clone()
    for step in range(frames.shape[1]):
        rows = mask[:, step]
        if rows.any():
            _, new = agent.actor_critic(views[rows, step], PolicyState(hidden[rows], cell[rows]))
            hidden[rows], cell[rows] = new.hidden, new.cell
    return PolicyState(hidden, cell)


class _World:
    """The world model inside a rollout: K + 1 passes of one token a step. Other predictions than IRIS's step themselves."""

    def __init__(
        self, model: WorldModel, tokens: Int64[Tensor, "batch tokens"], generator: torch.Generator
    ) -> None:
        self.model, self.generator = model, generator
        self.is_token_by_token = isinstance(model.prediction, Autoregressive)
        self.tokens = tokens
        self.memory: Memory | None = None
        self.state: State | None = None
        if self.is_token_by_token:
            self._begin()
        else:
            self.state = model.observe(None, tokens[:, None], tokens.new_zeros(len(tokens), 0))

    @torch.no_grad()
    def step(self, actions: Int64[Tensor, " batch"], *, is_last: bool) -> Drawn:
        """Return reward, end and the next frame's tokens; after the last step those of the frame before."""
        if self.is_token_by_token:
            return self._token_by_token(actions, is_last=is_last)
        assert self.state is not None
        prediction, self.state = self.model.imagine(
            self.state, actions, generator=self.generator, predict_frame=not is_last
        )
        self.tokens = self.tokens if prediction.tokens is None else prediction.tokens
        return prediction.rewards, prediction.ends, self.tokens

    @torch.no_grad()
    def _begin(self) -> None:
        """Forward the current frame into an empty memory."""
        _, self.memory = self.model.backbone(self.model.embedding.frame_tokens(self.tokens))

    def _token_by_token(self, actions: Int64[Tensor, " batch"], *, is_last: bool) -> Drawn:
        num_passes = 1 if is_last else 1 + self.model.tokens_per_frame
        window = self.model.backbone.window
        assert self.memory is not None
        if window is not None and self.memory.length + num_passes > window:
            self._begin()
        output = self._forward(self.model.embedding.actions(actions))
        rewards = self.model.reward_head.sample(output, generator=self.generator)
        ends = self._draw(self.model.end_head(output)) == 1
        head = self.model.get_submodule("prediction.head")
        drawn = [self._draw(head(output))]
        if not is_last:
            while len(drawn) < self.model.tokens_per_frame:
                drawn.append(self._draw(head(self._forward(self.model.embedding.frame_tokens(drawn[-1])))))
            self._forward(self.model.embedding.frame_tokens(drawn[-1]))
            self.tokens = torch.stack(drawn, dim=1)
        return rewards, ends, self.tokens

    def _forward(self, embedded: Float[Tensor, "batch embed"]) -> Float[Tensor, "batch embed"]:
        """Return the backbone's output at one more token."""
        outputs, self.memory = self.model.backbone(embedded[:, None], self.memory)
        return outputs[:, -1]

    def _draw(self, logits: Float[Tensor, "batch classes"]) -> Int64[Tensor, " batch"]:
        return sample_categorical(logits, generator=self.generator)


@dataclass(frozen=True)
class Source:
    """Where plain losses take their batches from."""

    replay: ReplayBuffer
    rng: np.random.Generator
    device: torch.device

    def batch(self, num: int, length: int, *, anchor: str, training: schema.Training) -> Batch:
        """Return segments with their frames, on the device."""
        drawn = sample(self.replay, num, length, anchor=anchor, sample_by=sample_rule(training), rng=self.rng)
        return drawn.to(self.device)


def tokenizer_loss(agent: Agent, source: Source, settings: schema.Settings) -> Callable[[], Loss]:
    """Return a function that draws frames one by one and returns the tokenizer's loss on them."""
    training = settings.training
    num_frames = 1 + agent.tokenizer.needs_previous

    @as_torch_does()
    def loss() -> Loss:
        batch = source.batch(
            training.tokenizer.batch_num_samples, num_frames, anchor="end", training=training
        )
        return agent.tokenizer.loss(*frames_of(batch))

    return loss


def world_model_loss(agent: Agent, source: Source, settings: schema.Settings) -> Callable[[], Loss]:
    """Return a function that draws segments, encodes all their frames, and returns the world model's loss on them."""
    training = settings.training
    num, length = training.world_model.batch_num_samples, settings.common.sequence_length

    @as_torch_does()
    def loss() -> Loss:
        batch = source.batch(num, length, anchor="start", training=training)
        tokens = agent.tokenizer.encode(batch.frames)
        return agent.world_model.loss(
            TokenBatch(tokens, batch.actions, batch.rewards, batch.ends, batch.mask)
        )

    return loss


def policy_loss(rollout: Callable[[], Rollout], training: schema.ActorCriticTraining) -> Callable[[], Loss]:
    """Return a function that imagines a rollout and returns the actor-critic's loss on it."""

    def loss() -> Loss:
        return actor_critic_loss(
            rollout(),
            gamma=training.gamma,
            lambda_=training.lambda_,
            entropy_weight=training.entropy_weight,
            mask_after_end=training.mask_after_end,
        )

    return loss
