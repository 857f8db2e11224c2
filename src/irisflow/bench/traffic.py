"""Bytes that must pass between memory and processor: lower bounds, from the sizes of what a phase reads and writes.

Weights are read once a pass. Maps inside a pass are not counted: a perfect program would keep them in a cache.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irisflow.world_model.prediction.autoregressive import Autoregressive
from irisflow.world_model.world_model import WorldModel

# Read forward and backward; gradient written, read by clipping and optimizer; weight and two moments read and written.
TIMES_A_WEIGHT_IS_TOUCHED = 2 + 3 + 2 + 4


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers, frozen networks inside included."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def update_bytes(module: nn.Module) -> int:
    """Return what an update of a module's trainable parameters moves, beyond its batch and what is kept for backward."""
    trained = sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    frozen = weight_bytes(module) - trained
    return TIMES_A_WEIGHT_IS_TOUCHED * trained + frozen


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors inside nested records, lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for member in value:
            yield from tensors_in(member)


@torch.no_grad()
def memory_bytes(model: WorldModel, num_tokens: int) -> int:
    """Return the bytes of the backbone's memory of one row after so many tokens."""
    device = next(model.parameters()).device
    tokens = torch.zeros(1, num_tokens, dtype=torch.long, device=device)
    _, memory = model.backbone(model.embedding.frame_tokens(tokens))
    return sum(tensor.nbytes for tensor in tensors_in(memory))


def token_pass_bytes(model: WorldModel, *, batch: int, horizon: int) -> int:
    """Return what the token passes of one rollout read: weights once a pass, and the memory, which may grow."""
    per_frame = model.tokens_per_frame
    block = per_frame + 1
    window = model.backbone.window or (horizon + 1) * block
    short, long = memory_bytes(model, per_frame), memory_bytes(model, min(2 * per_frame, window))
    per_token = (long - short) / max(1, min(2 * per_frame, window) - per_frame)
    num_passes = horizon * num_passes_a_frame(model)
    mean_tokens = min(window, per_frame + horizon * block) / 2
    return int(num_passes * (weight_bytes(model) + batch * (short + per_token * (mean_tokens - per_frame))))


def num_passes_a_frame(model: WorldModel) -> int:
    """Return how many passes a frame needs at least: one per token where tokens depend on each other, else one."""
    return model.tokens_per_frame if isinstance(model.prediction, Autoregressive) else 1
