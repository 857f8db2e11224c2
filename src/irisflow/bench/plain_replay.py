"""Sampling as IRIS's text says: one segment after the other, cut, padded with zeros, stacked."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from irisflow.data.replay import ReplayBuffer, SampleBy
from irisflow.records import Batch


def sample(
    replay: ReplayBuffer,
    num: int,
    length: int,
    *,
    anchor: str,
    sample_by: SampleBy = "episode",
    rng: np.random.Generator,
) -> Batch:
    """Return what `ReplayBuffer.sample` draws from the same generator, without slots."""
    lengths = replay.lengths
    weights = lengths / lengths.sum() if sample_by == "step" else None
    chosen = rng.choice(len(lengths), size=num, p=weights)
    positions = rng.integers(lengths[chosen])
    starts = positions if anchor == "start" else positions + 1 - length
    return _stacked(
        [segment(replay, int(index), int(start), length) for index, start in zip(chosen, starts, strict=True)]
    )


def segment(replay: ReplayBuffer, index: int, start: int, length: int) -> dict[str, Tensor]:
    """Return the fields of steps `start` to `start + length` of an episode; zeros where it has none."""
    episode = replay.episode(index)
    first, last = max(start, 0), min(start + length, len(episode))
    padding = (first - start, start + length - last)
    ends = episode.terminated | episode.truncated if replay.time_limit_is_end else episode.terminated
    cut = {
        "observations": episode.observations[first:last],
        "actions": episode.actions[first:last],
        "rewards": episode.rewards[first:last],
        "ends": ends[first:last],
        "mask": np.ones(last - first, np.bool_),
    }
    return {name: _padded(torch.from_numpy(array), *padding) for name, array in cut.items()}


def _padded(steps: Tensor, before: int, after: int) -> Tensor:
    """Return the steps with zeros before and after them along the first axis."""
    others = (0, 0) * (steps.dim() - 1)
    return F.pad(steps, (*others, before, after))


def _stacked(segments: list[dict[str, Tensor]]) -> Batch:
    fields = {name: torch.stack([each[name] for each in segments]) for name in segments[0]}
    return Batch(**{**fields, "observations": fields["observations"].float() / 255})
