import json

import gymnasium
import numpy as np
import pytest
from PIL import Image

from irisflow import games
from irisflow.envs.atari import AtariEnvironment
from irisflow.envs.make import cartridges, make_environment
from irisflow.errors import DataError
from irisflow.schema import Env


def settings(env_id: str, **changes: object) -> Env:
    train = {"max_episode_steps": 20_000, "noop_max": 30, "done_on_life_loss": True}
    return Env(id=env_id, size=64, frame_skip=4, clip_reward=False, **(train | changes))


def play(environment, num_steps: int, seed: int, rng_seed: int = 0):
    """Return everything seen in so many random steps after a seeded reset."""
    observation, _ = environment.reset(seed=seed)
    return [observation, *continued(environment, num_steps, np.random.default_rng(rng_seed))]


def continued(environment, num_steps: int, rng: np.random.Generator):
    seen = []
    for _ in range(num_steps):
        observation, reward, terminated, truncated, info = environment.step(
            int(rng.integers(environment.num_actions))
        )
        seen.append((observation.tobytes(), reward, terminated, truncated, tuple(info.values())))
        if terminated or truncated:
            seen.append(environment.reset()[0].tobytes())
    return seen


@pytest.mark.parametrize("game", games.ATARI_100K)
def test_every_game_of_the_benchmark_resets_and_steps(game: str) -> None:
    environment = make_environment(settings(f"{game}NoFrameskip-v4", noop_max=1))
    observation, info = environment.reset(seed=0)
    assert observation.shape == (3, 64, 64)
    assert observation.dtype == np.uint8
    assert info["frames"] == 1
    pictures = [environment.step(environment.num_actions - 1)[0] for _ in range(150)]
    assert len({picture.tobytes() for picture in pictures}) > 1
    minimal = gymnasium.make(f"{game}NoFrameskip-v4").action_space
    assert environment.num_actions == minimal.n


@pytest.mark.parametrize("env_id", ["Pong", "ALE/Pong-v5", "PongDeterministic-v4", "Pong-v0"])
def test_every_id_of_a_game_means_the_same_preprocessing(env_id: str) -> None:
    expected = play(make_environment(settings("PongNoFrameskip-v4")), 20, seed=5)
    found = play(make_environment(settings(env_id)), 20, seed=5)
    assert np.array_equal(found[0], expected[0])
    assert found[1:] == expected[1:]


def test_a_game_outside_the_benchmark_has_the_same_preprocessing() -> None:
    environment = make_environment(settings("ALE/DonkeyKong-v5"))
    assert isinstance(environment, AtariEnvironment)
    assert environment.reset(seed=0)[0].shape == (3, 64, 64)


def reference_steps(game: str, actions: list[int], num_noops: int) -> list[tuple[np.ndarray, float]]:
    """The slow way: every frame through gymnasium's own step, resized, then the maximum of the last two."""

    def small(frame: np.ndarray) -> np.ndarray:
        return np.array(Image.fromarray(frame).resize((64, 64), Image.BILINEAR))

    emulator = gymnasium.make(f"{game}NoFrameskip-v4")
    emulator.reset(seed=3)
    for _ in range(num_noops):
        frame = emulator.step(0)[0]
    steps = [(small(frame).transpose(2, 0, 1), 0.0)]
    for action in actions:
        outcomes = [emulator.step(action) for _ in range(4)]
        frames = [small(outcome[0]) for outcome in outcomes]
        assert not any(outcome[2] for outcome in outcomes)
        picture = np.maximum(frames[2], frames[3]).transpose(2, 0, 1)
        steps.append((picture, sum(outcome[1] for outcome in outcomes)))
    return steps


@pytest.mark.parametrize("game", ["Breakout", "MsPacman"])
def test_observations_are_the_maximum_of_the_last_two_resized_frames(game: str) -> None:
    environment = AtariEnvironment(game, noop_max=1)
    actions = np.random.default_rng(1).integers(environment.num_actions, size=60).tolist()
    expected = reference_steps(game, actions, num_noops=1)
    assert np.array_equal(environment.reset(seed=3)[0], expected[0][0])
    for action, (picture, reward) in zip(actions, expected[1:], strict=True):
        observation, found, *_ = environment.step(action)
        assert np.array_equal(observation, picture)
        assert found == reward


def test_rewards_are_raw_and_clipped_only_on_request() -> None:
    raw = play(AtariEnvironment("MsPacman"), 120, seed=0)
    clipped = play(AtariEnvironment("MsPacman", clip_reward=True), 120, seed=0)
    assert max(step[1] for step in raw[1:]) == 10.0
    assert max(step[1] for step in clipped[1:]) == 1.0


def lose_a_life(environment: AtariEnvironment) -> dict[str, object]:
    while True:
        *_, terminated, truncated, info = environment.step(1)
        assert not truncated
        if terminated:
            return info


def test_a_lost_life_ends_the_episode_and_the_game_goes_on_after_one_no_op_step() -> None:
    environment = AtariEnvironment("Breakout", noop_max=30, done_on_life_loss=True)
    _, start = environment.reset(seed=0)
    before = lose_a_life(environment)
    _, after = environment.reset()
    assert (start["lives"], before["lives"], after["lives"]) == (5, 4, 4)
    assert not before["is_game_over"]
    assert after["frames"] == before["frames"] + 4


def test_after_the_last_life_a_new_game_starts() -> None:
    environment = AtariEnvironment("Breakout", noop_max=30, done_on_life_loss=True)
    environment.reset(seed=0)
    lives = []
    for _ in range(5):
        ended = lose_a_life(environment)
        lives.append(ended["lives"])
        _, started = environment.reset()
    assert lives == [4, 3, 2, 1, 0]
    assert ended["is_game_over"]
    assert started["lives"] == 5
    assert 1 <= started["frames"] <= 30


def test_lives_do_not_end_an_episode_in_full_games() -> None:
    environment = AtariEnvironment("Breakout", done_on_life_loss=False)
    environment.reset(seed=0)
    assert lose_a_life(environment)["lives"] == 0


def test_the_end_in_the_no_op_step_after_a_lost_life_is_reported_by_the_next_step() -> None:
    environment = AtariEnvironment("Breakout", noop_max=1, done_on_life_loss=True)
    environment.reset(seed=0)
    frames = lose_a_life(environment)["frames"]
    limited = AtariEnvironment("Breakout", noop_max=1, done_on_life_loss=True, max_episode_steps=frames + 2)
    limited.reset(seed=0)
    assert lose_a_life(limited)["frames"] == frames
    _, info = limited.reset()
    assert info["frames"] == frames + 2
    *_, terminated, truncated, info = limited.step(0)
    assert (terminated, truncated, info["is_game_over"]) == (False, True, True)


def test_no_ops_are_uniform_from_one_to_the_maximum() -> None:
    environment = AtariEnvironment("Pong", noop_max=30)
    environment.reset(seed=1)
    counts = []
    for _ in range(300):
        environment._is_game_over = True
        counts.append(environment.reset()[1]["frames"])
    assert set(counts) == set(range(1, 31))


def test_the_time_limit_counts_no_ops_and_is_apart_from_termination() -> None:
    environment = AtariEnvironment("Pong", noop_max=30, max_episode_steps=50)
    _, info = environment.reset(seed=2)
    frames = [info["frames"]]
    truncated = False
    while not truncated:
        *_, terminated, truncated, info = environment.step(0)
        assert not terminated
        frames.append(info["frames"])
    assert frames[-1] == 50
    assert frames[-2] >= 46
    assert environment.reset()[1]["frames"] <= 30


def test_an_ended_episode_stands_still_until_reset() -> None:
    environment = AtariEnvironment("Pong", max_episode_steps=9, noop_max=1)
    environment.reset(seed=0)
    environment.step(0)
    last = environment.step(0)
    again = environment.step(2)
    assert again[1:] == (0.0, *last[2:])
    assert np.array_equal(again[0], last[0])


def test_equal_seeds_give_equal_games_and_other_seeds_other_ones() -> None:
    first = play(AtariEnvironment("Breakout", noop_max=30, done_on_life_loss=True), 300, seed=7)
    environment = AtariEnvironment("Breakout", noop_max=30, done_on_life_loss=True)
    play(environment, 10, seed=1)
    assert play(environment, 300, seed=7)[1:] == first[1:]
    assert play(environment, 300, seed=8)[1:] != first[1:]


HARD_TO_RESTORE = {"Breakout", "Qbert", "RoadRunner"}  # the emulator's own state does not hold all of these
RESTORED = [pytest.param(g, marks=() if g in HARD_TO_RESTORE else pytest.mark.slow) for g in games.ATARI_100K]


@pytest.mark.parametrize("game", RESTORED)
def test_a_restored_game_continues_to_the_bit(game: str) -> None:
    options = {"noop_max": 30, "done_on_life_loss": True, "max_episode_steps": 1500}
    environment = AtariEnvironment(game, **options)
    play(environment, 330, seed=4)
    state = environment.get_state()
    expected = continued(environment, 200, np.random.default_rng(9))
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    rest = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
    restored = AtariEnvironment(game, **options)
    restored.set_state(arrays | rest)
    assert continued(restored, 200, np.random.default_rng(9)) == expected
    assert len(expected) >= 200


def test_the_state_of_another_game_is_refused() -> None:
    environment = AtariEnvironment("Pong")
    environment.reset(seed=0)
    with pytest.raises(DataError, match="Pong"):
        AtariEnvironment("Breakout").set_state(environment.get_state())


def test_a_damaged_emulator_state_is_refused() -> None:
    environment = AtariEnvironment("Pong")
    environment.reset(seed=0)
    state = environment.get_state()
    with pytest.raises(DataError, match="Pong"):
        environment.set_state(state | {"before_game": state["before_game"][:100]})


def test_a_game_that_replays_differently_is_refused() -> None:
    environment = AtariEnvironment("Breakout")
    environment.reset(seed=0)
    environment.step(1)
    state = environment.get_state()
    with pytest.raises(DataError, match="played again"):
        environment.set_state(state | {"history": state["history"][:-2]})


def test_the_state_of_an_environment_before_its_first_reset_can_be_restored() -> None:
    environment, restored = AtariEnvironment("Pong"), AtariEnvironment("Pong")
    restored.set_state(environment.get_state())
    assert restored.reset(seed=1)[1]["frames"] == 1


def test_the_screen_is_rendered_at_its_own_resolution() -> None:
    environment = AtariEnvironment("Pong")
    environment.reset(seed=0)
    assert environment.render().shape == (210, 160, 3)


def test_a_cartridge_is_told_by_its_md5() -> None:
    assert cartridges(settings("PongNoFrameskip-v4")) == {"Pong": "60e0ea3cbe0913d39803477945e9e5ec"}
    assert cartridges(settings("Catch")) == {}
