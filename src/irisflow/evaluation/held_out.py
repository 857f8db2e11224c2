"""Held-out episodes as tokenizer and world model see them, and the fixed segments that they are measured on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from irisflow.evaluation.image_quality import as_uint8
from irisflow.records import Episode
from irisflow.tokenizer.tokenizer import Tokenizer

FRAMES_AT_ONCE = 64  # bounds the memory of a pass


@dataclass(frozen=True)
class HeldOut:
    """All steps of the recording in a row, on the models' device. `last_step` is where each step's episode ends."""

    frames: UInt8[Tensor, "steps 3 height width"]
    tokens: Int64[Tensor, "steps tokens"]
    reconstructions: UInt8[Tensor, "steps 3 height width"]
    actions: Int64[Tensor, " steps"]
    signs: Int64[Tensor, " steps"]  # of the rewards: -1, 0 or 1
    ends: Bool[Tensor, " steps"]
    first_step: Int64[Tensor, " steps"]
    last_step: Int64[Tensor, " steps"]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Segments:
    """Consecutive steps from fixed starts: `context` frames that the models see, then those to predict.

    Action t leads from frame t to t + 1. Steps after the episode's end repeat its last one; `mask` is false there.
    """

    steps: Int64[Tensor, "segments time"]
    mask: Bool[Tensor, "segments time"]
    context: int

    @property
    def past(self) -> Int64[Tensor, "segments context"]:
        """The steps of the context."""
        return self.steps[:, : self.context]

    @property
    def future(self) -> Int64[Tensor, "segments horizon"]:
        """The steps whose frames are to be predicted."""
        return self.steps[:, self.context :]

    @property
    def acting(self) -> Int64[Tensor, "segments horizon"]:
        """The steps whose actions lead to those of `future`, and whose rewards are to be predicted."""
        return self.steps[:, self.context - 1 : -1]

    @property
    def has_frame(self) -> Bool[Tensor, "segments horizon"]:
        """Whether a frame was recorded at the steps of `future`."""
        return self.mask[:, self.context :]

    @property
    def has_reward(self) -> Bool[Tensor, "segments horizon"]:
        """Whether a reward was recorded at the steps of `acting`: one step longer, as the last one has no next frame."""
        return self.mask[:, self.context - 1 : -1]


@torch.no_grad()
def held_out(
    tokenizer: Tokenizer, episodes: Sequence[Episode], *, time_limit_is_end: bool, device: torch.device
) -> HeldOut:
    """Return the episodes, tokenized and reconstructed. `time_limit_is_end` as in training."""
    frames = torch.from_numpy(np.concatenate([episode.observations for episode in episodes])).to(device)
    tokens = torch.cat(
        [tokenizer.encode(piece.float() / 255) for piece in torch.split(frames, FRAMES_AT_ONCE)]
    )
    ends = [episode.terminated | (episode.truncated & time_limit_is_end) for episode in episodes]
    lengths = np.array([len(episode) for episode in episodes])
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    arrays = {
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "signs": np.sign(np.concatenate([episode.rewards for episode in episodes])).astype(np.int64),
        "ends": np.concatenate(ends),
        "first_step": first,
        "last_step": first + np.repeat(lengths, lengths) - 1,
    }
    on_device = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return HeldOut(frames, tokens, render(tokenizer, tokens), **on_device)


@torch.no_grad()
def render(
    tokenizer: Tokenizer, tokens: Int64[Tensor, "frames tokens"]
) -> UInt8[Tensor, "frames 3 height width"]:
    """Return the images that tokens stand for."""
    return torch.cat([as_uint8(tokenizer.decode(piece)) for piece in torch.split(tokens, FRAMES_AT_ONCE)])


def segments(
    recorded: HeldOut, *, context: int, length: int, num_starts: int, min_horizon: int = 1
) -> Segments | None:
    """Return segments of `length` steps from at most `num_starts` starts, spread evenly over the recording.

    From a start on, its episode has `context` frames and at least `min_horizon` more. None where no step is such a start.
    """
    steps = torch.arange(len(recorded), device=recorded.frames.device)
    starts = steps[steps + context - 1 + min_horizon <= recorded.last_step]
    if not len(starts):
        return None
    picked = np.linspace(0, len(starts) - 1, min(num_starts, len(starts))).round().astype(np.int64)
    return _from(recorded, starts[torch.from_numpy(picked).to(starts.device)], length, context)


def windows(recorded: HeldOut, *, length: int) -> Iterator[Segments]:
    """Yield segments that cover every step of the recording once, some at a time."""
    steps = torch.arange(len(recorded), device=recorded.frames.device)
    starts = steps[(steps - recorded.first_step) % length == 0]
    for piece in torch.split(starts, FRAMES_AT_ONCE):
        yield _from(recorded, piece, length, length)


def _from(recorded: HeldOut, starts: Int64[Tensor, " segments"], length: int, context: int) -> Segments:
    steps = starts[:, None] + torch.arange(length, device=starts.device)
    last = recorded.last_step[starts][:, None]
    return Segments(steps.minimum(last), steps <= last, context)


def spread(num_frames: int, *, most: int) -> list[int]:
    """Return the numbers of at most `most` frames, evenly spread from the first to the last."""
    return [round(number) for number in np.linspace(0, num_frames - 1, min(most, num_frames)).tolist()]
