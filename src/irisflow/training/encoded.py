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
    step in the buffer those of its group. Pictures of at most `max_kept_pictures` frames are kept; those of others are
    decoded whenever they are drawn.
    """

    def __init__(
        self, replay: ReplayBuffer, tokenizer: Tokenizer, *, device: torch.device, max_kept_pictures: int = 0
    ) -> None:
        self.replay, self.tokenizer, self.device = replay, tokenizer, device
        num_groups = -(-replay.capacity_steps // FRAMES_AT_ONCE)
        self._tokens = _KeptGroups(self._encoded, num_groups, max_kept=num_groups)
        self._pictures = _KeptGroups(
            self._decoded, num_groups, max_kept=min(num_groups, max_kept_pictures // FRAMES_AT_ONCE)
        )
        self._end_step = 0

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

        With `has_pictures` it has the reconstructions, too, anything on padding: worth it where as many frames are drawn as
        there are, for all of a group are decoded. Raises ValueError if the tokenizer is not in eval mode.
        """
        if self.tokenizer.training:
            raise ValueError("tokens are made by a tokenizer in eval mode: call .eval() on it")
        batch = self.replay.sample(
            num, length, anchor=anchor, sample_by=sample_by, rng=rng, has_observations=False
        )
        assert batch.slots is not None  # the buffer always says
        slots = batch.slots.numpy()
        self._forget_overwritten()
        batch = batch.to(self.device)
        tokens = self._tokens.take(slots, self.tokenizer.tokens_version()) * batch.mask[..., None]
        version = self.tokenizer.pictures_version()
        return batch.with_tokens(tokens, self._pictures.take(slots, version) if has_pictures else None)

    @torch.no_grad()
    def _encoded(self, group: int) -> Tensor:
        frames = self.replay.frames(group * FRAMES_AT_ONCE, FRAMES_AT_ONCE).to(self.device)
        return self.tokenizer.encode(frames)

    def _decoded(self, group: int) -> Tensor:
        first = group * FRAMES_AT_ONCE
        last = min(first + FRAMES_AT_ONCE, self.replay.capacity_steps, self.replay.end_step)
        return self.tokenizer.decode(
            self._tokens.take(np.arange(first, last), self.tokenizer.tokens_version())
        )

    def _forget_overwritten(self) -> None:
        """Make stale what was made of slots that have other steps now."""
        first, end = self._end_step, self.replay.end_step
        capacity = self.replay.capacity_steps
        is_replaced = end < first
        steps = np.arange(end - capacity if is_replaced else max(first, end - capacity), end)
        for kept in (self._tokens, self._pictures):
            kept.forget(np.unique(steps % capacity // FRAMES_AT_ONCE))
        self._end_step = end


class _KeptGroups:
    """One tensor for each slot, made in groups of consecutive slots; the first `max_kept` groups that are made are kept."""

    def __init__(self, make: Callable[[int], Tensor], num_groups: int, *, max_kept: int) -> None:
        self._make, self._max_kept = make, max_kept
        self._rows: Tensor | None = None
        self._is_made = np.zeros(num_groups, np.bool_)
        self._first_rows = np.full(num_groups, -1, np.int64)  # by group; -1 where no room was given
        self._version = -1  # of what the tensors were made from: none yet

    def take(self, slots: Int64[np.ndarray, "*shape"], version: int) -> Tensor:
        """Return the tensors of these slots, (\\*shape, ...). Another version of what makes them makes all of them anew."""
        if version != self._version:
            self._is_made[:], self._version = False, version
        groups, offsets = np.divmod(slots, FRAMES_AT_ONCE)
        passing = {int(group): self._made(int(group)) for group in np.unique(groups[~self._is_made[groups]])}
        assert self._rows is not None or passing
        rows = np.where(self._is_made[groups], self._first_rows[groups] + offsets, 0)
        found = self._rows_at(rows, like=next(iter(passing.values()), None))
        for group, made in passing.items():
            if not self._is_made[group]:
                chosen = np.nonzero(groups == group)
                found[chosen] = made[offsets[chosen]]
        return found

    def forget(self, groups: Int64[np.ndarray, " groups"]) -> None:
        """Make these groups anew when they are wanted again."""
        self._is_made[groups] = False

    def _rows_at(self, rows: Int64[np.ndarray, "*shape"], *, like: Tensor | None) -> Tensor:
        if self._rows is None:
            assert like is not None
            return like.new_empty(*rows.shape, *like.shape[1:])
        return self._rows[torch.from_numpy(rows).to(self._rows.device)]

    def _made(self, group: int) -> Tensor:
        """Return the tensors of a group; keep them if there is room."""
        made = self._make(group)
        if self._first_rows[group] < 0 and (self._first_rows >= 0).sum() < self._max_kept:
            self._first_rows[group] = FRAMES_AT_ONCE * int((self._first_rows >= 0).sum())
        first = int(self._first_rows[group])
        if first >= 0:
            if self._rows is None:
                self._rows = made.new_zeros(self._max_kept * FRAMES_AT_ONCE, *made.shape[1:])
            self._rows[first : first + len(made)] = made
            self._is_made[group] = True
        return made
