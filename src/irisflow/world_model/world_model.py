"""The world model: what follows an action, one frame at a time. IRIS, section 2.2. It never sees pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow import schema, variants
from irisflow.errors import ConfigError
from irisflow.randomness import Source, sample_categorical
from irisflow.records import Loss, Prediction, TokenBatch
from irisflow.world_model.backbones.base import Backbone, Memory
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.heads import Head, cross_entropy, labels
from irisflow.world_model.prediction.base import FramePrediction, Pass
from irisflow.world_model.rewards.base import RewardHead
from irisflow.world_model.weights import initialise


@dataclass(frozen=True)
class State:
    """Where imagination stands; the world model consumes it when it steps.

    `frame` is the current frame; its last tokens, as many as the prediction leaves pending, wait to be forwarded with
    the next action, which saves a pass per frame. It is None after a step that predicted no frame: such a state has no
    future. `memory` is None before anything was forwarded.
    """

    memory: Memory | None
    frame: Int64[Tensor, "batch tokens"] | None


def build_world_model(
    settings: schema.WorldModel | DictConfig,
    *,
    vocab_size: int,
    num_actions: int,
    tokens_per_frame: int,
    full_action_ids: Sequence[int] | None = None,
) -> "WorldModel":
    """Return an untrained world model. Raises ConfigError for settings that do not fit together.

    `full_action_ids` says which of the 18 actions of the full set each of the game's is; `world_model.actions=all` needs it.
    """
    if settings.tokens_per_block != tokens_per_frame + 1:
        raise ConfigError(
            f"world_model.tokens_per_block: {settings.tokens_per_block} was given, but the tokenizer makes"
            f" {tokens_per_frame} tokens of a frame. Allowed: {tokens_per_frame + 1}, those and an action."
        )
    if settings.actions == "all" and full_action_ids is None:
        raise ConfigError(
            "world_model.actions is all, but nothing says which of the 18 Atari actions those of this environment are."
            " Allowed: game; with an Atari game or Catch also all."
        )
    action_ids = full_action_ids if settings.actions == "all" else None
    backbone = variants.build("backbone", settings.backbone)
    sizes = {"embed_dim": backbone.embed_dim, "vocab_size": vocab_size}
    embedding = Embedding(num_actions=num_actions, action_ids=action_ids, **sizes)
    prediction = variants.build("prediction", settings.prediction, tokens_per_frame=tokens_per_frame, **sizes)
    embedding.apply(initialise)
    reward_head = variants.build("reward", settings.reward, embed_dim=backbone.embed_dim)
    return WorldModel(embedding, backbone, prediction, reward_head, tokens_per_frame=tokens_per_frame)


class WorldModel(nn.Module):
    """Embedding, backbone, frame prediction, and the heads for reward and end."""

    backbone: Backbone
    prediction: FramePrediction
    reward_head: RewardHead

    def __init__(
        self,
        embedding: Embedding,
        backbone: Backbone,
        prediction: FramePrediction,
        reward_head: RewardHead,
        *,
        tokens_per_frame: int,
    ) -> None:
        super().__init__()
        self.tokens_per_frame = tokens_per_frame
        self.embedding = embedding
        self.backbone = backbone
        self.prediction = prediction
        self.reward_head = reward_head
        self.end_head = Head(backbone.embed_dim, 2).apply(initialise)

    def forward(
        self, tokens: Int64[Tensor, "batch time tokens"], actions: Int64[Tensor, "batch time"]
    ) -> Pass:
        """Return the backbone's pass over whole blocks: frames, each with the action taken on it."""
        sequence = self.embedding(tokens, actions)
        blocks = rearrange(sequence, "b (time position) d -> b time position d", time=tokens.shape[1])
        return self.prediction.read(blocks, backbone=self.backbone)

    def loss(self, batch: TokenBatch) -> Loss:
        """Return the cross-entropies `observation`, `reward` and `end`, each a mean over its own targets."""
        seen, mask = self(batch.tokens, batch.actions), batch.mask
        return Loss(
            {
                "observation": self.prediction.loss(seen, batch.tokens, mask),
                "reward": self.reward_head.loss(seen.at_actions, batch.rewards, mask),
                "end": cross_entropy(self.end_head(seen.at_actions), labels(batch.ends.long(), mask)),
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
        ready = sequence[:, : sequence.shape[1] - self.prediction.pending]
        if ready.shape[1]:
            _, memory = self.backbone(ready, memory)
        return State(memory, tokens[:, -1])

    @torch.no_grad()
    def imagine(
        self,
        state: State,
        actions: Int64[Tensor, " batch"],
        *,
        generator: Source,
        predict_frame: bool = True,
        greedy: bool = False,
    ) -> tuple[Prediction, State]:
        """Return what follows the actions, and the state there. With the reward head `sign`, rewards are -1, 0 or 1.

        Draws reward, end, then tokens; `greedy` takes the likeliest of each and draws nothing.
        `predict_frame=False` predicts no frame and makes no token pass: for the last step of a rollout. Where
        the backbone's window has no room left, all but the current frame is forgotten. Nothing leaves the
        device.
        """
        state = self._with_room(state, predict_frame=predict_frame)
        inputs = torch.cat([self._pending(state), self.embedding.actions(actions)[:, None]], dim=1)
        outputs, memory = self.backbone(inputs, state.memory)
        output = outputs[:, -1]
        rewards = self.reward_head.sample(output, generator=generator, greedy=greedy)
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
        return Prediction(rewards, ends, frame), State(memory, frame)

    def _pending(self, state: State) -> Float[Tensor, "batch pending embed"]:
        """Return the embeddings of the frame's last tokens, which the backbone has not seen yet."""
        if state.frame is None:
            raise ValueError("the step that made this state predicted no frame: nothing can follow it")
        pending: Tensor = self.embedding.frame_tokens(state.frame[:, -self.prediction.pending :])
        return pending

    def _with_room(self, state: State, *, predict_frame: bool) -> State:
        """Return a state in whose window one more step fits. It counts a frame's last token as forwarded."""
        needed = self.prediction.pending + 1 + self.tokens_per_frame * predict_frame
        window, length = self.backbone.window, 0 if state.memory is None else state.memory.length
        if window is None or state.frame is None or length + needed <= window:
            return state
        frame = state.frame[:, None]
        return self.observe(None, frame, frame[:, :0, 0])
