"""The world model: what follows an action, one frame at a time. IRIS, section 2.2. It never sees pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow import schema, variants
from irisflow.errors import ConfigError
from irisflow.randomness import sample_categorical
from irisflow.records import Loss, Prediction, TokenBatch
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.heads import Head
from irisflow.world_model.prediction.base import FramePrediction
from irisflow.world_model.weights import initialise

IGNORED = -100


@dataclass(frozen=True)
class State:
    """Where imagination stands; the world model consumes it when it steps.

    `frame` is the current frame; its last token waits to be forwarded with the next action, which saves one
    pass per frame. It is None after a step that predicted no frame: such a state has no future.
    """

    memory: Memory
    frame: Int64[Tensor, "batch tokens"] | None


@dataclass(frozen=True)
class Logits:
    """What one pass over whole blocks says, and the backbone's outputs it was read from."""

    outputs: Float[Tensor, "batch length embed"]
    observations: Float[Tensor, "batch predictions vocab"]
    rewards: Float[Tensor, "batch time 3"]
    ends: Float[Tensor, "batch time 2"]


@dataclass(frozen=True)
class Labels:
    """Targets of the logits; -100 where a step is padding. `observations` has no label for the last logit."""

    observations: Int64[Tensor, "batch labels"]
    rewards: Int64[Tensor, "batch time"]
    ends: Int64[Tensor, "batch time"]


def build_world_model(
    settings: schema.WorldModel | DictConfig, *, vocab_size: int, num_actions: int, tokens_per_frame: int
) -> "WorldModel":
    """Return an untrained world model. Raises ConfigError for settings that do not fit together."""
    if settings.tokens_per_block != tokens_per_frame + 1:
        raise ConfigError(
            f"world_model.tokens_per_block: {settings.tokens_per_block} was given, but the tokenizer makes"
            f" {tokens_per_frame} tokens of a frame. Allowed: {tokens_per_frame + 1}, those and an action."
        )
    backbone = variants.build("backbone", settings.backbone)
    sizes = {"embed_dim": backbone.embed_dim, "vocab_size": vocab_size}
    return WorldModel(
        Embedding(num_actions=num_actions, **sizes),
        backbone,
        variants.build("prediction", settings.prediction, tokens_per_frame=tokens_per_frame, **sizes),
        tokens_per_frame=tokens_per_frame,
    )


def labels(batch: TokenBatch) -> Labels:
    """Return the targets: the next frame tokens, the reward's sign plus one, and whether the episode ends."""
    padding = ~batch.mask
    observations = batch.tokens.masked_fill(padding[:, :, None], IGNORED).flatten(1)[:, 1:]
    rewards = (batch.rewards.sign() + 1).long().masked_fill(padding, IGNORED)
    return Labels(observations, rewards, batch.ends.long().masked_fill(padding, IGNORED))


class WorldModel(nn.Module):
    """Embedding, backbone, frame prediction, and the heads for reward and end."""

    backbone: Backbone
    prediction: FramePrediction

    def __init__(
        self,
        embedding: Embedding,
        backbone: Backbone,
        prediction: FramePrediction,
        *,
        tokens_per_frame: int,
    ) -> None:
        super().__init__()
        self.tokens_per_frame = tokens_per_frame
        self.embedding = embedding.apply(initialise)
        self.backbone = backbone
        self.prediction = prediction
        self.reward_head = Head(backbone.embed_dim, 3).apply(initialise)
        self.end_head = Head(backbone.embed_dim, 2).apply(initialise)

    def forward(
        self, tokens: Int64[Tensor, "batch time tokens"], actions: Int64[Tensor, "batch time"]
    ) -> Logits:
        """Return what the world model says after each token and action of whole blocks."""
        outputs, _ = self.backbone(self.embedding(tokens, actions))
        blocks = rearrange(outputs, "b (time position) d -> b time position d", time=tokens.shape[1])
        at_actions = blocks[:, :, -1]
        return Logits(
            outputs, self.prediction(blocks), self.reward_head(at_actions), self.end_head(at_actions)
        )

    def loss(self, batch: TokenBatch) -> Loss:
        """Return the cross-entropies `observation`, `reward` and `end`, each a mean over its own targets."""
        logits, targets = self(batch.tokens, batch.actions), labels(batch)
        return Loss(
            {
                "observation": _cross_entropy(logits.observations[:, :-1], targets.observations),
                "reward": _cross_entropy(logits.rewards, targets.rewards),
                "end": _cross_entropy(logits.ends, targets.ends),
            }
        )

    @torch.no_grad()
    def observe(
        self,
        state: State | None,
        tokens: Int64[Tensor, "batch time tokens"],
        actions: Int64[Tensor, "batch actions"],
    ) -> State:
        """Return the state after seeing frames; the last one is current.

        Without a state, `actions` are those between the frames, one fewer than frames. With one, they also
        hold the action that led from the state's frame to the first of these.
        """
        if state is None:
            first = self.embedding.frame_tokens(tokens[:, 0])
            rest = self.embedding.continued(tokens[:, 1:], actions)
            sequence, memory = torch.cat([first, rest], dim=1), None
        else:
            rest = self.embedding.continued(tokens, actions)
            sequence, memory = torch.cat([self._pending(state), rest], dim=1), state.memory
        _, seen = self.backbone(sequence[:, :-1], memory)
        return State(seen, tokens[:, -1])

    @torch.no_grad()
    def imagine(
        self,
        state: State,
        actions: Int64[Tensor, " batch"],
        *,
        generator: torch.Generator,
        predict_frame: bool = True,
        greedy: bool = False,
    ) -> tuple[Prediction, State]:
        """Return what follows the actions, and the state there. Rewards are -1, 0 or 1.

        Draws reward, end, then tokens; `greedy` takes the likeliest of each and draws nothing.
        `predict_frame=False` predicts no frame and makes no token pass: for the last step of a rollout. Where
        the backbone's window has no room left, all but the current frame is forgotten. Nothing leaves the
        device.
        """
        state = self._with_room(state, predict_frame=predict_frame)
        inputs = torch.cat([self._pending(state), self.embedding.actions(actions)[:, None]], dim=1)
        outputs, memory = self.backbone(inputs, state.memory)
        output = outputs[:, -1]
        rewards = sample_categorical(self.reward_head(output), generator=generator, greedy=greedy) - 1
        ends = sample_categorical(self.end_head(output), generator=generator, greedy=greedy) == 1
        frame = None
        if predict_frame:
            frame, memory = self.prediction.sample(
                output,
                memory,
                backbone=self.backbone,
                embedding=self.embedding,
                generator=generator,
                greedy=greedy,
            )
        return Prediction(rewards.to(output.dtype), ends, frame), State(memory, frame)

    def _pending(self, state: State) -> Float[Tensor, "batch 1 embed"]:
        """Return the embedding of the frame's last token, which the backbone has not seen yet."""
        if state.frame is None:
            raise ValueError("the step that made this state predicted no frame: nothing can follow it")
        pending: Tensor = self.embedding.frame_tokens(state.frame[:, -1:])
        return pending

    def _with_room(self, state: State, *, predict_frame: bool) -> State:
        """Return a state in whose window one more step fits. It counts a frame's last token as forwarded."""
        needed = 1 + self.tokens_per_frame * predict_frame
        window = self.backbone.window
        if window is None or state.frame is None or state.memory.length + 1 + needed <= window:
            return state
        frame = state.frame[:, None]
        return self.observe(None, frame, frame[:, :0, 0])


def _cross_entropy(
    logits: Float[Tensor, "batch targets classes"], targets: Int64[Tensor, "batch targets"]
) -> Float[Tensor, ""]:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
