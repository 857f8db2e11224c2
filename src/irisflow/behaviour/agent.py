"""The agent: the three networks, and how it acts in a real environment."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow import schema, variants
from irisflow.behaviour.actor_critics.base import ActorCritic, PolicyOutput, PolicyState, Views
from irisflow.randomness import sample_categorical
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.world_model.world_model import WorldModel, build_world_model


def build_agent(
    settings: schema.Settings | DictConfig, *, num_actions: int, full_action_ids: Sequence[int] | None = None
) -> "Agent":
    """Return an untrained agent. Raises ConfigError for settings that do not fit together.

    `full_action_ids`: see `build_world_model`.
    """
    tokenizer = build_tokenizer(settings.tokenizer)
    world_model = build_world_model(
        settings.world_model,
        vocab_size=tokenizer.vocab_size,
        num_actions=num_actions,
        tokens_per_frame=tokenizer.tokens_per_frame,
        full_action_ids=full_action_ids,
    )
    resolution = settings.tokenizer.encoder.config.resolution
    actor_critic = variants.build(
        "actor_critic",
        settings.actor_critic,
        num_actions=num_actions,
        resolution=resolution,
        code_map=(settings.tokenizer.embed_dim, tokenizer.grid, tokenizer.grid),
    )
    return Agent(tokenizer, world_model, actor_critic)


class Agent(nn.Module):
    """Tokenizer, world model and actor-critic."""

    actor_critic: ActorCritic

    def __init__(self, tokenizer: Tokenizer, world_model: WorldModel, actor_critic: ActorCritic) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.world_model = world_model
        self.actor_critic = actor_critic

    @torch.no_grad()
    def act(
        self,
        observations: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch 3 height width"],
        state: PolicyState | None,
        *,
        temperature: float,
        epsilon: float,
        should_sample: bool,
        generator: torch.Generator,
    ) -> tuple[Int64[Tensor, " batch"], PolicyOutput, PolicyState]:
        """Return actions on frames (uint8, or floats in [0, 1]), the policy's output and its next state.

        With probability `epsilon`, by one draw for the whole batch, all actions are uniform.
        `should_sample=False` takes the likeliest action.
        """
        state = self.actor_critic.initial_state(len(observations)) if state is None else state
        output, state = self.actor_critic(self.seen(observations), state)
        greedy = output.logits.argmax(dim=-1)
        sampled = sample_categorical(output.logits / temperature, generator=generator)
        actions = self._explored(sampled if should_sample else greedy, epsilon=epsilon, generator=generator)
        return actions, output, state

    @torch.no_grad()
    def seen(
        self, observations: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch 3 height width"]
    ) -> Views:
        """Return what the policy sees of frames: the views of their tokens, or with `use_original_obs` the frames."""
        images = observations.float() / 255 if observations.dtype == torch.uint8 else observations
        return images if self.actor_critic.use_original_obs else self.view(self.tokenizer.encode(images))

    @torch.no_grad()
    def view(self, tokens: Int64[Tensor, "batch tokens"]) -> Views:
        """Return what the policy sees of tokens: the decoded pictures in [0, 1], or the maps of codes."""
        is_codes = self.actor_critic.sees == "codes"
        return self.tokenizer.embed(tokens) if is_codes else self.tokenizer.decode(tokens)

    def _explored(
        self, actions: Int64[Tensor, " batch"], *, epsilon: float, generator: torch.Generator
    ) -> Int64[Tensor, " batch"]:
        """Return uniform actions with probability epsilon, else those given."""
        is_random = torch.rand((), generator=generator, device=actions.device) < epsilon
        uniform = torch.randint(
            self.actor_critic.num_actions, actions.shape, generator=generator, device=actions.device
        )
        return torch.where(is_random, uniform, actions)
