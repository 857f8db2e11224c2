"""The optimizers are torch's fused ones, without its compiler."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.testing import assert_close

from irisflow.training.optim import Adam, AdamW

PROGRAM = """
import sys, torch
from irisflow.training.optim import Adam
weight = torch.ones(2, requires_grad=True)
optimizer = Adam([weight], lr=0.1)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def trained(kind: Callable[..., Optimizer]) -> list[torch.Tensor]:
    """Return weights after six updates, the optimizer replaced by one in its state after three."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}]
    optimizer = kind(groups, lr=0.01)
    for update in range(6):
        if update == 3:
            state = optimizer.state_dict()
            optimizer = kind(groups, lr=0.01)
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        layer(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    assert layer.weight.grad is None
    return [layer.weight.detach(), layer.bias.detach()]


@pytest.mark.parametrize(("own", "torchs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_weights_are_to_the_bit_those_of_torchs_optimizer(
    own: type[Optimizer], torchs: type[Optimizer]
) -> None:
    fused = partial(torchs, fused=True)
    assert all(torch.equal(*pair) for pair in zip(trained(own), trained(fused), strict=True))
    assert_close(trained(own), trained(torchs), rtol=1e-6, atol=1e-7)


def test_an_update_does_not_import_torchs_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM], check=False).returncode == 0


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_an_update_leaves_a_trace_by_which_what_was_made_of_the_weights_is_known_to_be_stale(
    kind: type[Optimizer],
) -> None:
    layer = nn.Linear(4, 3)
    optimizer = kind(layer.parameters(), lr=0.01)
    versions = [parameter._version for parameter in layer.parameters()]
    layer(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert all(p._version > before for p, before in zip(layer.parameters(), versions, strict=True))
