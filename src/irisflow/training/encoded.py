"""The training data as tokens: each frame is encoded once while the tokenizer stays as it is."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from irisflow.data.replay import ReplayBuffer, SampleBy
from irisflow.records import Batch
from irisflow.tokenizer.tokenizer import Tokenizer

FRAMES_AT_ONCE = 32


class EncodedReplay:
    """Segments of a replay buffer together with the tokens of their frames.

    Frames are encoded when they are first drawn, always in the same groups of consecutive slots: so a frame's tokens
    do not depend on what was drawn before it, and a resumed run finds the same ones. An update of what decides
    tokens makes all of them stale, a new step in the buffer those of its group.
    """

    def __init__(self, replay: ReplayBuffer, tokenizer: Tokenizer, *, device: torch.device) -> None:
        self.replay, self.tokenizer, self.device = replay, tokenizer, device
        self._tokens = torch.zeros(0, tokenizer.tokens_per_frame, dtype=torch.long, device=device)
        self._is_encoded = np.zeros(0, np.bool_)  # by group
        self._version, self._end_step = -1, 0  # what the tokens were made from: none yet

    def sample(
        self,
        num: int,
        length: int,
        *,
        anchor: Literal["start", "end"],
        sample_by: SampleBy,
        rng: np.random.Generator,
    ) -> Batch:
        """Return what `ReplayBuffer.sample` returns, on the device and with `tokens`; those of padding are zero.

        Raises ValueError if the tokenizer is not in eval mode.
        """
        if self.tokenizer.training:
            raise ValueError("tokens are made by a tokenizer in eval mode: call .eval() on it")
        batch = self.replay.sample(num, length, anchor=anchor, sample_by=sample_by, rng=rng).to(self.device)
        assert batch.slots is not None  # the buffer always says
        return batch.with_tokens(self._tokens_of(batch.slots) * batch.mask[..., None])

    def _tokens_of(self, slots: Tensor) -> Tensor:
        """Return the tokens of the frames in these slots of the buffer, (\\*slots, K)."""
        self._forget_stale()
        groups = np.unique(slots.cpu().numpy() // FRAMES_AT_ONCE)
        for group in groups[~self._is_encoded[groups]]:
            self._encode(int(group))
        return self._tokens[slots]

    @torch.no_grad()
    def _encode(self, group: int) -> None:
        frames = self.replay.frames(group * FRAMES_AT_ONCE, FRAMES_AT_ONCE).to(self.device)
        first = group * FRAMES_AT_ONCE
        self._tokens[first : first + len(frames)] = self.tokenizer.encode(frames)
        self._is_encoded[group] = True

    def _forget_stale(self) -> None:
        version = self.tokenizer.tokens_version()
        first, end = self._end_step, self.replay.end_step
        if version != self._version or end < first:
            num_slots = self.replay.capacity_steps
            self._tokens = self._tokens.new_zeros(num_slots, self.tokenizer.tokens_per_frame)
            self._is_encoded = np.zeros(-(-num_slots // FRAMES_AT_ONCE), np.bool_)
        else:
            slots = np.arange(max(first, end - self.replay.capacity_steps), end) % self.replay.capacity_steps
            self._is_encoded[slots // FRAMES_AT_ONCE] = False
        self._version, self._end_step = version, end
