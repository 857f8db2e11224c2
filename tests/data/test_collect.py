import json

import numpy as np
import pytest

from irisflow import progress
from irisflow.data.collect import Collector, RandomPolicy, record_episodes
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.atari import AtariEnvironment
from irisflow.envs.toy import Catch


class Remembering(RandomPolicy):
    """Random, and remembers what it was shown."""

    def __init__(self, num_actions: int, seed: int = 0) -> None:
        super().__init__(num_actions, np.random.default_rng(seed))
        self.begun: list[np.ndarray] = []

    def begin(self, recent: np.ndarray) -> None:
        self.begun.append(recent.copy())


def same(found, expected) -> bool:
    return all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in vars(expected))


def test_episodes_hold_what_was_seen_before_each_action() -> None:
    replay = ReplayBuffer(100)
    results = Collector(Catch(), replay, seed=3).collect(RandomPolicy(3, np.random.default_rng(1)), 20)
    assert replay.lengths.tolist() == [9, 9, 2]
    assert [result.length for result in results] == [9, 9]
    environment = Catch()
    for index, one in enumerate(replay.episodes()):
        observation, _ = environment.reset(seed=3 if index == 0 else None)
        for step in range(len(one)):
            assert np.array_equal(one.observations[step], observation)
            observation, reward, terminated, _, _ = environment.step(int(one.actions[step]))
            assert one.rewards[step] == reward
            assert one.terminated[step] == terminated
        if index < 2:
            assert results[index].score == results[index].game_score == one.score


def test_the_open_episode_goes_on_in_the_next_call() -> None:
    pieces, whole = ReplayBuffer(100), ReplayBuffer(100)
    collector, policy = Collector(Catch(), pieces, seed=3), Remembering(3)
    for num_steps in (3, 2, 9, 6):
        collector.collect(policy, num_steps)
    Collector(Catch(), whole, seed=3).collect(Remembering(3), 20)
    assert pieces.lengths.tolist() == [9, 9, 2]
    assert all(same(*pair) for pair in zip(pieces.episodes(), whole.episodes(), strict=True))


def test_the_policy_is_given_the_open_episodes_last_observations_and_nothing_at_a_reset() -> None:
    replay, policy = ReplayBuffer(100), Remembering(3)
    collector = Collector(Catch(), replay, burn_in=4, seed=3)
    collector.collect(policy, 6)
    assert [len(recent) for recent in policy.begun] == [0, 0]
    collector.collect(policy, 5)
    assert [len(recent) for recent in policy.begun[2:]] == [4, 0]
    assert np.array_equal(policy.begun[2], replay.episode(0).observations[2:6])


def test_lives_are_episodes_and_whole_games_are_scored_too() -> None:
    replay = ReplayBuffer(1000)
    collector = Collector(AtariEnvironment("Breakout", done_on_life_loss=True), replay, seed=1)
    results = collector.collect(RandomPolicy(4, np.random.default_rng(0)), 500)
    over = [index for index, result in enumerate(results) if result.game_score is not None]
    assert over[0] == 4
    assert results[4].game_score == sum(result.score for result in results[:5])
    assert results[4].game_score > 0
    assert [one.score for one in replay.episodes()][: len(results)] == [r.score for r in results]


@pytest.mark.parametrize(
    "make", [Catch, lambda: AtariEnvironment("Pong", noop_max=30, done_on_life_loss=True)]
)
@pytest.mark.parametrize("num_steps", [5, 7])
def test_a_restored_collector_goes_on_exactly(make, num_steps: int) -> None:
    def collector(replay: ReplayBuffer) -> Collector:
        return Collector(make(), replay, burn_in=3, seed=8)

    first = ReplayBuffer(100)
    original = collector(first)
    original.collect(Remembering(3), num_steps)
    state = original.get_state()
    state["environment"] = json.loads(
        json.dumps(state["environment"], default=np.ndarray.tolist),
        object_hook=lambda d: {
            k: np.array(v, np.uint8)
            if k in ("before_game", "history", "emulator", "last_two", "observation")
            else v
            for k, v in d.items()
        },
    )
    second = ReplayBuffer(100)
    second.set_state(first.get_state(), [(0, first.steps(0, first.end_step))])
    restored = collector(second)
    restored.set_state(state)
    policies = Remembering(3, seed=5), Remembering(3, seed=5)
    results = original.collect(policies[0], 30), restored.collect(policies[1], 30)
    assert results[0] == results[1]
    assert all(map(np.array_equal, policies[0].begun, policies[1].begun))
    assert all(same(*pair) for pair in zip(first.episodes(), second.episodes(), strict=True))


def test_a_recording_is_as_long_as_asked_and_its_last_episode_stays_open() -> None:
    episodes = record_episodes(Catch(), RandomPolicy(3, np.random.default_rng(0)), 30, seed=0)
    assert [len(one) for one in episodes] == [9, 9, 9, 3]
    assert [bool(one.terminated[-1]) for one in episodes] == [True, True, True, False]
    assert not any(one.truncated.any() for one in episodes)
    again = record_episodes(Catch(), RandomPolicy(3, np.random.default_rng(0)), 30, seed=0)
    assert all(same(*pair) for pair in zip(episodes, again, strict=True))


def test_a_recording_says_how_far_it_is_and_holds_the_same_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ReplayBuffer(30)
    Collector(Catch(), quiet, burn_in=0, seed=5).collect(Remembering(3), 30)
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    recorded = record_episodes(Catch(), Remembering(3), 30, seed=5)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("recording") for line in lines) and "30/30" in lines[-1], lines
    assert all(same(*pair) for pair in zip(recorded, quiet.episodes(), strict=True))


def test_random_actions_are_uniform() -> None:
    policy = RandomPolicy(4, np.random.default_rng(0))
    actions = policy.act(np.zeros((4000, 3, 2, 2), np.uint8))
    assert actions.dtype == np.int64
    np.testing.assert_allclose(np.bincount(actions) / 4000, 0.25, atol=0.03)
