"""The training data as tokens and reconstructions: each is made once while the tokenizer stays as it is."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from irisflow.data.replay import ReplayBuffer, SampleBy
from irisflow.records import Batch
from irisflow.tokenizer.tokenizer import Tokenizer

FRAMES_AT_ONCE = 32


class EncodedReplay:
    """Segments of a replay buffer as the tokens of their frames and, where asked for, the pictures decoded from them.

    Both are made when a frame is first drawn, always in the same groups of consecutive slots: so they do not depend on what
    was drawn before, and a resumed run finds the same ones. An update of what decides them makes all of them stale, a new
    step in the buffer those of its group.
    """

    def __init__(
        self, replay: ReplayBuffer, tokenizer: Tokenizer, *, device: torch.device, max_kept_pictures: int = 0
    ) -> None:
        self.replay, self.tokenizer, self.device = replay, tokenizer, device
        self.max_kept_pictures = max_kept_pictures
        num_groups = -(-replay.capacity_steps // FRAMES_AT_ONCE)
        self._tokens, self._pictures = (_Kept(num_groups, make) for make in (self._encoded, self._decoded))
        self._end_step = 0

    @property
    def keeps_pictures(self) -> bool:
        """Whether the pictures of all that the buffer holds may be kept."""
        return min(self.replay.end_step, self.replay.capacity_steps) <= self.max_kept_pictures

    def sample(
        self,
        num: int,
        length: int,
        *,
        anchor: Literal["start", "end"],
        sample_by: SampleBy,
        rng: np.random.Generator,
        has_pictures: bool = False,
    ) -> Batch:
        """Return what `ReplayBuffer.sample` returns, on the device, with `tokens` in place of frames: 0 on padding.

        With `has_pictures`, and where it `keeps_pictures`, it has the reconstructions, too, anything on padding. That is
        worth it if as many frames are drawn as there are, for all of a group are decoded. Raises ValueError if the tokenizer
        is not in eval mode.
        """
        if self.tokenizer.training:
            raise ValueError("tokens are made by a tokenizer in eval mode: call .eval() on it")
        batch = self.replay.sample(
            num, length, anchor=anchor, sample_by=sample_by, rng=rng, has_observations=False
        )
        assert batch.slots is not None  # the buffer always says
        slots, batch = batch.slots.numpy(), batch.to(self.device)
        self._forget_overwritten()
        tokens = self._tokens.take(slots, self.tokenizer.tokens_version()) * batch.mask[..., None]
        if not (has_pictures and self.keeps_pictures):
            return batch.with_tokens(tokens)
        return batch.with_tokens(tokens, self._pictures.take(slots, self.tokenizer.pictures_version()))

    @torch.no_grad()
    def _encoded(self, group: int) -> Tensor:
        frames = self.replay.frames(group * FRAMES_AT_ONCE, FRAMES_AT_ONCE).to(self.device)
        return self.tokenizer.encode(frames)

    def _decoded(self, group: int) -> Tensor:
        first = group * FRAMES_AT_ONCE
        last = min(first + FRAMES_AT_ONCE, self.replay.capacity_steps, self.replay.end_step)
        tokens = self._tokens.take(np.arange(first, last), self.tokenizer.tokens_version())
        return self.tokenizer.decode(tokens)

    def _forget_overwritten(self) -> None:
        """Make stale what was made of slots that have other steps now."""
        first, end = self._end_step, self.replay.end_step
        capacity = self.replay.capacity_steps
        is_replaced = end < first
        steps = np.arange(end - capacity if is_replaced else max(first, end - capacity), end)
        for kept in (self._tokens, self._pictures):
            kept.forget(np.unique(steps % capacity // FRAMES_AT_ONCE))
        self._end_step = end


class _Kept:
    """One tensor for each slot, made in groups of consecutive slots when one of them is wanted."""

    def __init__(self, num_groups: int, make: Callable[[int], Tensor]) -> None:
        self._make = make
        self._rows: Tensor | None = None
        self._is_made = np.zeros(num_groups, np.bool_)
        self._version = -1  # of what the tensors were made from: none yet

    def take(self, slots: Int64[np.ndarray, "*shape"], version: int) -> Tensor:
        r"""Return the tensors of these slots, (\\*shape, ...). Another version of what makes them makes all of them anew."""
        if version != self._version:
            self._is_made[:], self._version = False, version
        groups = np.unique(slots // FRAMES_AT_ONCE)
        for group in groups[~self._is_made[groups]]:
            self._put(int(group))
        assert self._rows is not None
        return self._rows[torch.from_numpy(slots).to(self._rows.device)]

    def forget(self, groups: Int64[np.ndarray, " groups"]) -> None:
        """Make these groups anew when they are wanted again."""
        self._is_made[groups] = False

    def _put(self, group: int) -> None:
        made, first = self._make(group), group * FRAMES_AT_ONCE
        rows = made.new_empty(0, *made.shape[1:]) if self._rows is None else self._rows
        if first + FRAMES_AT_ONCE > len(rows):  # memory is taken as it is wanted
            room = max(first + FRAMES_AT_ONCE, 2 * len(rows)) - len(rows)
            rows = torch.cat([rows, made.new_zeros(room, *made.shape[1:])])
        rows[first : first + len(made)] = made
        self._rows, self._is_made[group] = rows, True
