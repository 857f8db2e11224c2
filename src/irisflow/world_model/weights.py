"""How the world model's weights start."""

from torch import nn


def initialise(module: nn.Module) -> None:
    """Draw the weight of a Linear or Embedding from N(0, 0.02), zero its bias if it has one. For `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
