"""The training data in memory: episodes in one ring of arrays, sampled as padded segments."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from irisflow.errors import DataError
from irisflow.records import Batch, Episode

FIELDS = tuple(field.name for field in fields(Episode))
SMALL_FIELDS = tuple(name for name in FIELDS if name != "observations")
ROWS_AT_ONCE = 4  # segments whose frames are cut and made floats while the processor's cache holds them

SampleBy = Literal["episode", "step"]


class ReplayBuffer:
    """Episodes of agent steps, of which the last may still be open, that is, growing.

    When `capacity_steps` is exceeded, the oldest episodes go (and of a single too long episode its oldest
    steps). Memory is taken as it fills. `time_limit_is_end` keeps IRIS's choice that a truncated step counts
    as an end; False corrects it.
    """

    def __init__(
        self,
        capacity_steps: int,
        observation_shape: tuple[int, int, int] = (3, 64, 64),
        *,
        time_limit_is_end: bool = True,
    ) -> None:
        self.capacity_steps = capacity_steps
        self.time_limit_is_end = time_limit_is_end
        self._arrays: dict[str, np.ndarray] = {
            "observations": np.empty((capacity_steps, *observation_shape), np.uint8),
            "actions": np.empty(capacity_steps, np.int64),
            "rewards": np.empty(capacity_steps, np.float32),
            "terminated": np.empty(capacity_steps, np.bool_),
            "truncated": np.empty(capacity_steps, np.bool_),
        }
        self._first = 0  # steps ever dropped; step number s lies in slot s % capacity_steps
        self._lengths: Int64[np.ndarray, " episodes"] = np.zeros(0, np.int64)
        self._starts: Int64[np.ndarray, " episodes"] = np.zeros(0, np.int64)
        self._is_open = False

    @property
    def num_steps(self) -> int:
        """Steps that can be sampled."""
        return int(self._lengths.sum())

    @property
    def num_episodes(self) -> int:
        """Episodes that can be sampled, the open one included."""
        return len(self._lengths)

    @property
    def lengths(self) -> Int64[np.ndarray, " episodes"]:
        """Steps of every episode, oldest first."""
        return self._lengths.copy()

    def append(self, episode: Episode) -> None:
        """Add a whole episode; what the open one was before stays as it is and is closed."""
        self.close_episode()
        self.extend(episode)
        self.close_episode()

    def extend(self, chunk: Episode) -> None:
        """Add steps to the open episode, or open one with them. A chunk that ends with an end closes it.

        Raises ValueError for a chunk that is empty or longer than the capacity.
        """
        if not 0 < len(chunk) <= self.capacity_steps:
            raise ValueError(f"a chunk of {len(chunk)} steps does not fit into {self.capacity_steps}")
        end = self._first + self.num_steps
        slots = np.arange(end, end + len(chunk)) % self.capacity_steps
        for name in FIELDS:
            self._arrays[name][slots] = getattr(chunk, name)
        if not self._is_open:
            self._lengths = np.append(self._lengths, 0)
        self._lengths[-1] += len(chunk)
        self._is_open = not (chunk.terminated[-1] or chunk.truncated[-1])
        self._drop_oldest()

    def close_episode(self) -> None:
        """Make the next chunk begin a new episode."""
        self._is_open = False

    def episode(self, index: int) -> Episode:
        """Return one episode; a view where it does not cross the ring's seam."""
        begin = self._starts[index] % self.capacity_steps
        end = begin + self._lengths[index]
        if end <= self.capacity_steps:
            return Episode(**{name: array[begin:end] for name, array in self._arrays.items()})
        slots = np.arange(begin, end) % self.capacity_steps
        return Episode(**{name: array[slots] for name, array in self._arrays.items()})

    def episodes(self) -> Iterator[Episode]:
        """Yield the episodes, oldest first."""
        yield from (self.episode(index) for index in range(self.num_episodes))

    def frames(self, first: int, num: int) -> Float[Tensor, "slots 3 height width"]:
        """Return the observations in [0, 1] that lie in `num` slots from `first` on, as far as they are filled."""
        last = min(first + num, self.capacity_steps, self.end_step)
        return torch.from_numpy(self._arrays["observations"][first:last]).float().div_(255)

    def segments(
        self,
        episode_indices: Int64[np.ndarray, " batch"],
        starts: Int64[np.ndarray, " batch"],
        length: int,
        *,
        has_observations: bool = True,
    ) -> Batch:
        """Return `length` steps of each named episode from each start, zeros where the episode has none.

        A start may be negative (padding on the left); start + length may exceed the episode (on the right). Without
        observations it is a hundred times faster: they are all but a thousandth of the bytes.
        """
        time = starts[:, None] + np.arange(length)
        lengths = self._lengths[episode_indices][:, None]
        mask = (time >= 0) & (time < lengths)
        steps = self._starts[episode_indices][:, None] + time.clip(0, lengths - 1)
        slots = steps % self.capacity_steps
        cut = {name: self._arrays[name].take(slots, axis=0) for name in SMALL_FIELDS}
        for array in cut.values():
            array[~mask] = 0
        ends = cut["terminated"] | cut["truncated"] if self.time_limit_is_end else cut["terminated"]
        return Batch(
            observations=self._observations(slots, mask) if has_observations else None,
            actions=torch.from_numpy(cut["actions"]),
            rewards=torch.from_numpy(cut["rewards"]),
            ends=torch.from_numpy(ends),
            mask=torch.from_numpy(mask),
            slots=torch.from_numpy(slots),
        )

    def _observations(
        self, slots: Int64[np.ndarray, "batch time"], mask: Bool[np.ndarray, "batch time"]
    ) -> Float[Tensor, "batch time 3 height width"]:
        """Return the observations in these slots in [0, 1], zeros where the mask is false."""
        frames = torch.empty(*slots.shape, *self._arrays["observations"].shape[1:])
        for first in range(0, len(slots), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            cut = self._arrays["observations"].take(slots[rows], axis=0)
            cut[~mask[rows]] = 0
            frames[rows].copy_(torch.from_numpy(cut)).div_(255)
        return frames

    def sample(
        self,
        num: int,
        length: int,
        *,
        anchor: Literal["start", "end"],
        sample_by: SampleBy = "episode",
        rng: np.random.Generator,
        has_observations: bool = True,
    ) -> Batch:
        """Return `num` random segments of `length` steps.

        Anchored at the start, a segment begins at any step of its episode and is padded on the right;
        anchored at the end, it ends with any step and is padded on the left. Episodes are drawn with
        replacement: uniformly, as IRIS does, so that the steps of short ones come more often, or (`step`) by
        their length, which makes every step equally likely. Raises DataError if there are no episodes.
        """
        if not self.num_episodes:
            raise DataError(
                "replay buffer: it has no steps. Collect before training: collection.train.config.num_steps."
            )
        weights = self._lengths / self._lengths.sum() if sample_by == "step" else None
        chosen = rng.choice(self.num_episodes, size=num, p=weights)
        positions = rng.integers(self._lengths[chosen])
        starts = positions if anchor == "start" else positions + 1 - length
        return self.segments(chosen, starts, length, has_observations=has_observations)

    def recent(self, num: int) -> np.ndarray:
        """Return the last `num` observations, at most, of the open episode; none if no episode is open."""
        if not self._is_open:
            return self._arrays["observations"][:0]
        return self.episode(-1).observations[-num:] if num else self._arrays["observations"][:0]

    @property
    def first_step(self) -> int:
        """Number of the oldest step; steps are numbered in the order in which they came, dropped ones too."""
        return self._first

    @property
    def end_step(self) -> int:
        """Number of the step that will come next."""
        return self._first + self.num_steps

    def steps(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """Return the fields of the steps numbered `begin` to before `end`, which never change once they are there."""
        slots = np.arange(begin, end) % self.capacity_steps
        return {name: array[slots] for name, array in self._arrays.items()}

    def get_state(self) -> dict[str, Any]:
        """Return where episodes begin and end; the steps themselves are `steps(first_step, end_step)`."""
        return {
            "lengths": self.lengths,
            "first": self._first,
            "is_open": self._is_open,
            "capacity_steps": self.capacity_steps,
        }

    def set_state(self, state: dict[str, Any], pieces: Iterable[tuple[int, dict[str, np.ndarray]]]) -> None:
        """Replace the content: `state` is of `get_state`, `pieces` are first numbers and steps, in order.

        Raises DataError for another capacity or frame size, or if steps are missing.
        """
        if state["capacity_steps"] != self.capacity_steps:
            raise DataError(
                f"replay buffer state: {state['capacity_steps']} steps, expected {self.capacity_steps}."
                " Resume with the settings that the run was started with, or start it again."
            )
        first = int(state["first"])
        missing, end = first, first + int(state["lengths"].sum())
        for begin, fields_of_steps in pieces:
            missing = self._put(begin, fields_of_steps, missing, end)
        if missing != end:
            raise DataError(f"replay buffer state: the steps from {missing} to {end} are missing.")
        self._first, self._is_open = first, bool(state["is_open"])
        self._lengths = state["lengths"].copy()
        self._place()

    def _put(self, begin: int, piece: dict[str, np.ndarray], missing: int, end: int) -> int:
        """Write the steps of a piece from `missing` to before `end`; return the first that is still missing."""
        shapes = {name: array.shape[1:] for name, array in self._arrays.items()}
        found = {name: array.shape[1:] for name, array in piece.items()}
        if found != shapes or begin > missing:
            raise DataError(
                f"replay buffer state: steps from {begin} with {found}, expected from {missing} with {shapes}."
            )
        until = min(begin + len(piece["actions"]), end)
        slots = np.arange(missing, until) % self.capacity_steps
        for name in FIELDS:
            self._arrays[name][slots] = piece[name][missing - begin : until - begin]
        return max(missing, until)

    def _drop_oldest(self) -> None:
        surplus = self.num_steps - self.capacity_steps
        while surplus > 0:
            drop = surplus if self.num_episodes == 1 else int(self._lengths[0])
            self._lengths[0] -= drop
            self._lengths = self._lengths[self._lengths > 0]
            self._first, surplus = self._first + drop, surplus - drop
        self._place()

    def _place(self) -> None:
        """Recompute where each episode starts."""
        self._starts = self._first + np.cumsum(self._lengths) - self._lengths
