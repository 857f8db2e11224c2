"""An LSTM cell (Gers et al. 2000) whose products with inputs can be made for many steps together."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.kernels.kept import Kept
from irisflow.linear import product

Gates = Float[Tensor, "batch gates"]
Units = Float[Tensor, "batch units"]


class LSTMCell(nn.RNNCellBase):
    """torch.nn.LSTMCell, with the same weights, in two parts: what its gates are given by inputs, and a step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, bias=True, num_chunks=4)
        self._packed_ih, self._packed_hh = Kept(), Kept()

    def forward(
        self, inputs: Float[Tensor, "batch inputs"], state: tuple[Units, Units]
    ) -> tuple[Units, Units]:
        """Return the outputs and the cell's content after one step."""
        return self.step(self.given(inputs), state)

    def given(self, inputs: Float[Tensor, "batch inputs"]) -> Gates:
        """Return the gates' products with inputs, bias included."""
        return product(inputs, self.weight_ih, self.bias_ih, self._packed_ih)

    def step(self, given: Gates, state: tuple[Units, Units]) -> tuple[Units, Units]:
        """Return the outputs and the cell's content after one step whose inputs' products are known."""
        hidden, cell = state
        gates = given + product(hidden, self.weight_hh, self.bias_hh, self._packed_hh)
        enter, stay, content, leave = gates.chunk(4, dim=1)
        cell = stay.sigmoid() * cell + enter.sigmoid() * content.tanh()
        return leave.sigmoid() * torch.tanh(cell), cell
