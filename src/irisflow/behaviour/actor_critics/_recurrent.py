"""What the actor-critics share: an LSTM on the features of a view, under a policy head and a value head."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from irisflow.behaviour.actor_critics._lstm import LSTMCell
from irisflow.behaviour.actor_critics.base import PolicyOutput, PolicyState, Views

VIEWS_AT_ONCE = 128  # bounds the memory of the first layer


class Recurrent(nn.Module):
    """A subclass makes the layers, in the order in which a seed shall initialise them, and says what features are."""

    lstm: LSTMCell
    critic: nn.Linear
    actor: nn.Linear

    def forward(self, views: Views, state: PolicyState) -> tuple[PolicyOutput, PolicyState]:
        """Return the output on views, and the state after them."""
        hidden, cell = self.lstm(self._features(views), (state.hidden, state.cell))
        return PolicyOutput(self.actor(hidden), self.critic(hidden)[:, 0]), PolicyState(hidden, cell)

    def initial_state(self, batch_size: int) -> PolicyState:
        """Return zeros."""
        zeros = self.actor.weight.new_zeros(batch_size, self.lstm.hidden_size)
        return PolicyState(zeros, zeros)

    def sequence(
        self, views: Float[Tensor, "batch time channels rows columns"], state: PolicyState
    ) -> tuple[Float[Tensor, "batch time actions"], Float[Tensor, "batch time"]]:
        """Return logits and values on one view after another."""
        hidden, cell, outputs = state.hidden, state.cell, []
        for given in self._given_of(views):
            hidden, cell = self.lstm.step(given, (hidden, cell))
            outputs.append(hidden)
        stacked = torch.stack(outputs, dim=1)
        return self.actor(stacked), self.critic(stacked)[..., 0]

    @torch.no_grad()
    def burn_in(
        self,
        views: Float[Tensor, "batch time channels rows columns"],
        mask: Bool[Tensor, "batch time"],
        state: PolicyState | None = None,
    ) -> PolicyState:
        """Return the state after past views; rows where the mask is false keep theirs. No gradient."""
        state = self.initial_state(len(views)) if state is None else state
        hidden, cell = state.hidden, state.cell
        for given, is_valid in zip(self._given_of(views), mask[:, :, None].unbind(1), strict=True):
            new_hidden, new_cell = self.lstm.step(given, (hidden, cell))
            hidden = torch.where(is_valid, new_hidden, hidden)
            cell = torch.where(is_valid, new_cell, cell)
        return PolicyState(hidden, cell)

    def _given_of(
        self, views: Float[Tensor, "batch time channels rows columns"]
    ) -> tuple[Float[Tensor, "batch gates"], ...]:
        """Return what the LSTM's gates are given at each time: views do not wait for the state, so all go together."""
        pieces = torch.split(views.flatten(0, 1), VIEWS_AT_ONCE)
        given = self.lstm.given(torch.cat([self._features(piece) for piece in pieces]))
        return given.view(*views.shape[:2], given.shape[-1]).unbind(dim=1)

    def _features(self, views: Views) -> Float[Tensor, "batch features"]:
        raise NotImplementedError
