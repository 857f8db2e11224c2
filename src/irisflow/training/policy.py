"""The agent as a policy for the collector: converts frames, remembers the LSTM's state, draws actions."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from irisflow import schema
from irisflow.behaviour.actor_critics.base import PolicyState
from irisflow.behaviour.agent import Agent


class AgentPolicy:
    """Acts in one or more real environments as `collection.*.config` says. Satisfies `data.collect.Policy`."""

    def __init__(
        self,
        agent: Agent,
        settings: schema.CollectionConfig,
        generator: torch.Generator,
        *,
        device: torch.device,
    ) -> None:
        self.agent, self.generator, self.device = agent, generator, device
        self.epsilon, self.temperature = settings.epsilon, settings.temperature
        self.should_sample = settings.should_sample
        self.state = agent.actor_critic.initial_state(1)

    @torch.no_grad()
    def begin(self, recent: UInt8[np.ndarray, "time 3 height width"]) -> None:
        """Reset the state to zero, then burn it in on the open episode's past frames (IRIS, section 2.3)."""
        self.state = self.agent.actor_critic.initial_state(1)
        if len(recent):
            seen = self.agent.seen(self._frames(recent))[None]
            self.state = self.agent.actor_critic.burn_in(
                seen, seen.new_ones(seen.shape[:2], dtype=torch.bool)
            )

    @torch.no_grad()
    def act(self, observations: UInt8[np.ndarray, "envs 3 height width"]) -> Int64[np.ndarray, " envs"]:
        """Return an action for each environment."""
        actions, _, self.state = self.agent.act(
            self._frames(observations),
            self.state,
            temperature=self.temperature,
            epsilon=self.epsilon,
            should_sample=self.should_sample,
            generator=self.generator,
        )
        return np.asarray(actions.cpu().numpy(), dtype=np.int64)

    def get_state(self) -> dict[str, torch.Tensor]:
        """Return what the LSTM remembers; it counts only where a collection was interrupted."""
        return {
            "hidden": self.state.hidden.clone(),
            "cell": self.state.cell.clone(),
        }  # a fresh one shares its zeros

    def set_state(self, state: dict[str, torch.Tensor]) -> None:
        """Remember what `get_state` returned."""
        self.state = PolicyState(state["hidden"].to(self.device), state["cell"].to(self.device))

    def _frames(self, observations: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(observations).to(self.device)
