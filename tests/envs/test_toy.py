import json

import numpy as np

from irisflow.envs.toy import BALL_COLOUR, PADDLE_COLOUR, Catch


def mean_score(policy, num_episodes: int = 400) -> float:
    environment = Catch()
    scores = []
    for episode in range(num_episodes):
        observation, _ = environment.reset(seed=0 if episode == 0 else None)
        ended = False
        while not ended:
            observation, reward, ended, _, _ = environment.step(policy(observation))
        scores.append(reward)
    return float(np.mean(scores))


def column(observation: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float(np.argwhere((observation == np.array(colour)[:, None, None]).all(0))[:, 1].mean())


def follow(observation: np.ndarray) -> int:
    return 1 + int(np.sign(column(observation, BALL_COLOUR) - column(observation, PADDLE_COLOUR)))


def test_following_the_ball_catches_every_ball() -> None:
    assert mean_score(follow) == 1.0


def test_random_play_catches_one_ball_in_five() -> None:
    rng = np.random.default_rng(0)
    assert abs(mean_score(lambda _: int(rng.integers(3)), num_episodes=2000) + 0.6) < 0.06


def test_an_episode_is_nine_steps_and_only_the_last_is_rewarded() -> None:
    environment = Catch()
    environment.reset(seed=0)
    steps = [environment.step(1)[1:4] for _ in range(10)]
    assert steps[:8] == [(0.0, False, False)] * 8
    assert abs(steps[8][0]) == 1.0
    assert steps[8][1]
    assert steps[9] == (0.0, True, False)


def test_sizes_other_than_sixty_four_fill_the_picture() -> None:
    observation, _ = Catch(size=20).reset(seed=0)
    assert observation.shape == (3, 20, 20)
    assert (observation[:, -1] == PADDLE_COLOUR[0]).any()


def test_a_restored_game_continues_to_the_bit() -> None:
    environment = Catch()
    environment.reset(seed=1)
    environment.step(0)
    state = json.loads(json.dumps(environment.get_state()))

    def rest(env: Catch) -> list[bytes]:
        return [env.step(2)[0].tobytes() for _ in range(8)] + [env.reset()[0].tobytes() for _ in range(5)]

    expected = rest(environment)
    restored = Catch()
    restored.set_state(state)
    assert rest(restored) == expected
