import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irisflow.data.replay import ReplayBuffer
from irisflow.errors import DataError
from irisflow.records import Episode

SHAPE = (3, 4, 4)
ENDS = st.sampled_from(["terminated", "truncated", "open"])


def episode(length: int, end: str = "terminated", seed: int = 0) -> Episode:
    """Steps whose every field is recognisable and nowhere zero, so that padding cannot pass for them."""
    rng = np.random.default_rng(seed)
    is_last = np.arange(length) == length - 1
    return Episode(
        rng.integers(1, 256, size=(length, *SHAPE), dtype=np.uint8),
        rng.integers(1, 1000, size=length),
        rng.uniform(1, 2, size=length).astype(np.float32),
        is_last & (end == "terminated"),
        is_last & (end == "truncated"),
    )


def slow_segment(source: Episode, start: int, length: int) -> dict[str, np.ndarray]:
    """One segment, step by step."""
    found = {
        "observations": np.zeros((length, *SHAPE), np.float32),
        "actions": np.zeros(length, np.int64),
        "rewards": np.zeros(length, np.float32),
        "ends": np.zeros(length, np.bool_),
        "mask": np.zeros(length, np.bool_),
    }
    for place in range(length):
        step = start + place
        if 0 <= step < len(source):
            found["observations"][place] = source.observations[step].astype(np.float32) / 255
            found["actions"][place] = source.actions[step]
            found["rewards"][place] = source.rewards[step]
            found["ends"][place] = source.terminated[step] or source.truncated[step]
            found["mask"][place] = True
    return found


def same(found: Episode, expected: Episode) -> bool:
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in vars(expected))


def kept(added: list[Episode], capacity: int) -> list[Episode]:
    """The newest whole episodes that fit."""
    result: list[Episode] = []
    for candidate in reversed(added):
        if sum(map(len, result)) + len(candidate) > capacity:
            break
        result.insert(0, candidate)
    return result


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    ends=st.lists(ENDS, min_size=12, max_size=12),
    capacity=st.integers(12, 40),
    places=st.lists(st.tuples(st.integers(0, 11), st.integers(-15, 15)), min_size=1, max_size=8),
    length=st.integers(1, 20),
)
@settings(deadline=None)
def test_segments_equal_the_slow_ones_and_stay_in_their_episode(
    lengths, ends, capacity, places, length
) -> None:
    added = [episode(n, end, seed) for seed, (n, end) in enumerate(zip(lengths, ends, strict=False))]
    replay = ReplayBuffer(capacity, SHAPE)
    for one in added:
        replay.append(one)
    expected = kept(added, capacity)
    assert all(same(*pair) for pair in zip(replay.episodes(), expected, strict=True))
    assert replay.num_steps == sum(map(len, expected))
    indices = np.array([index % len(expected) for index, _ in places])
    starts = np.array([start for _, start in places])
    batch = replay.segments(indices, starts, length)
    for row, (index, start) in enumerate(zip(indices, starts, strict=True)):
        for name, array in slow_segment(expected[index], start, length).items():
            np.testing.assert_array_equal(getattr(batch, name)[row], array, err_msg=name)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    length=st.integers(1, 25),
    anchor=st.sampled_from(["start", "end"]),
    sample_by=st.sampled_from(["episode", "step"]),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_samples_are_padded_on_one_side_only(lengths, length, anchor, sample_by, seed) -> None:
    replay = ReplayBuffer(sum(lengths), SHAPE)
    for number, n in enumerate(lengths):
        replay.append(episode(n, seed=number))
    batch = replay.sample(16, length, anchor=anchor, sample_by=sample_by, rng=np.random.default_rng(seed))
    valid = batch.mask if anchor == "start" else batch.mask.flip(1)
    assert valid[:, 0].all()
    assert (valid[:, 1:] <= valid[:, :-1]).all()
    assert batch.observations.shape == (16, length, *SHAPE)
    assert (batch.ends.sum(1) <= 1).all()
    assert not batch.observations[~batch.mask].any()
    assert batch.observations[batch.mask].all()


def positions(anchor: str, sample_by: str, num: int = 20_000) -> np.ndarray:
    """How often each of the 4 + 16 steps of two episodes was the anchor of a sample."""
    replay = ReplayBuffer(20, SHAPE)
    first, second = episode(4, seed=1), episode(16, seed=2)
    actions = np.arange(20)
    for one, own in ((first, actions[:4]), (second, actions[4:])):
        replay.append(Episode(one.observations, own, one.rewards, one.terminated, one.truncated))
    batch = replay.sample(num, 3, anchor=anchor, sample_by=sample_by, rng=np.random.default_rng(0))
    return np.bincount(batch.actions[:, 0 if anchor == "start" else -1], minlength=20) / num


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_by_default_every_episode_is_equally_likely_and_every_step_within_it(anchor: str) -> None:
    expected = np.r_[np.full(4, 1 / 8), np.full(16, 1 / 32)]
    np.testing.assert_allclose(positions(anchor, "episode"), expected, atol=0.01)


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_sampled_by_step_every_step_is_equally_likely(anchor: str) -> None:
    np.testing.assert_allclose(positions(anchor, "step"), np.full(20, 1 / 20), atol=0.01)


def test_equal_generators_give_equal_samples() -> None:
    replay = ReplayBuffer(50, SHAPE)
    replay.append(episode(50))
    first, again, other = (
        replay.sample(8, 5, anchor="end", rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.actions, again.actions)
    assert not np.array_equal(first.actions, other.actions)


@given(chunks=st.lists(st.integers(1, 5), min_size=1, max_size=8), capacity=st.integers(3 + 8 * 5 + 2, 60))
def test_an_open_episode_grows_chunk_by_chunk(chunks: list[int], capacity: int) -> None:
    whole = episode(sum(chunks))
    replay = ReplayBuffer(capacity, SHAPE)
    replay.append(episode(3, seed=9))
    begin = 0
    for n in chunks:
        cut = {name: array[begin : begin + n] for name, array in vars(whole).items()}
        replay.extend(Episode(**cut))
        begin += n
        assert replay.num_episodes == 2
    assert same(replay.episode(1), whole)
    replay.extend(episode(2, seed=5))
    assert replay.lengths.tolist() == [3, sum(chunks), 2]


def test_an_episode_longer_than_the_buffer_loses_its_oldest_steps() -> None:
    whole = episode(25, end="open")
    replay = ReplayBuffer(10, SHAPE)
    for begin in range(0, 25, 5):
        replay.extend(Episode(**{name: array[begin : begin + 5] for name, array in vars(whole).items()}))
    assert same(replay.episode(0), Episode(**{name: array[15:] for name, array in vars(whole).items()}))


def test_a_time_limit_is_an_end_as_in_iris_unless_switched_off() -> None:
    for time_limit_is_end in (True, False):
        replay = ReplayBuffer(10, SHAPE, time_limit_is_end=time_limit_is_end)
        replay.append(episode(4, "truncated"))
        replay.append(episode(4, "terminated"))
        batch = replay.segments(np.array([0, 1]), np.array([0, 0]), 4)
        assert batch.ends[:, -1].tolist() == [time_limit_is_end, True]
        assert not batch.ends[:, :-1].any()


def test_sampling_from_nothing_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="Collect before training"):
        ReplayBuffer(10, SHAPE).sample(1, 1, anchor="start", rng=np.random.default_rng(0))


@pytest.mark.parametrize("capacity", [30, 70])
def test_a_restored_buffer_goes_on_exactly(capacity: int) -> None:
    def grown(replay: ReplayBuffer, begin: int, end: int) -> ReplayBuffer:
        for number in range(begin, end):
            replay.extend(episode(3 + number % 5, "open" if number % 3 == 0 else "terminated", seed=number))
        return replay

    original = grown(ReplayBuffer(capacity, SHAPE), 0, 10)
    first, end = original.first_step, original.end_step
    state, cuts = original.get_state(), [0, first // 2, first, (first + end) // 2, end]
    rest = json.loads(json.dumps(state | {"lengths": state["lengths"].tolist()}))
    restored = ReplayBuffer(capacity, SHAPE)
    restored.set_state(
        rest | {"lengths": np.array(rest["lengths"])},
        [
            (max(begin, first - 2), original.steps(max(begin, first - 2), until))
            for begin, until in pairwise(cuts)
            if until > first - 2
        ],
    )
    for replay in (original, restored):
        grown(replay, 10, 17)
    assert restored.lengths.tolist() == original.lengths.tolist()
    assert all(same(*pair) for pair in zip(restored.episodes(), original.episodes(), strict=True))
    first, second = (
        replay.sample(32, 6, anchor="end", rng=np.random.default_rng(3)) for replay in (original, restored)
    )
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_the_state_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="20 steps"):
        ReplayBuffer(10, SHAPE).set_state(ReplayBuffer(20, SHAPE).get_state(), [])


@pytest.mark.parametrize("pieces", [[], [(0, 3)], [(0, 3), (4, 7)], [(1, 7)]])
def test_a_state_without_all_its_steps_is_refused(pieces: list[tuple[int, int]]) -> None:
    original = ReplayBuffer(10, SHAPE)
    original.append(episode(7))
    with pytest.raises(DataError, match="replay buffer state"):
        ReplayBuffer(10, SHAPE).set_state(
            original.get_state(), [(begin, original.steps(begin, end)) for begin, end in pieces]
        )
