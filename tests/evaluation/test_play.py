import numpy as np
import pytest
import torch

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.envs.make import make_environment
from irisflow.envs.toy import BALL_COLOUR, PADDLE_COLOUR
from irisflow.evaluation.play import AgentPlayer, play_episodes
from irisflow.schema import Env

CATCH = Env(
    id="Catch",
    size=64,
    max_episode_steps=1000,
    noop_max=1,
    frame_skip=4,
    done_on_life_loss=False,
    clip_reward=False,
)
BREAKOUT = Env(**{**vars(CATCH), "id": "Breakout", "max_episode_steps": 5000})


class Uniform:
    """Plays at random; notes how many rows it is asked for."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions, self.rows = num_actions, []

    def begin(self, num_rows: int) -> None:
        pass

    def select(self, rows: np.ndarray) -> None:
        pass

    def restart(self, rows: np.ndarray) -> None:
        pass

    def logits(self, observations: np.ndarray) -> np.ndarray:
        self.rows.append(len(observations))
        return np.zeros((len(observations), self.num_actions))


class FollowOnce(Uniform):
    """Goes after the ball, but only for the first `patience` steps that it remembers of a game."""

    def __init__(self, patience: int) -> None:
        super().__init__(3)
        self.patience = patience

    def begin(self, num_rows: int) -> None:
        self.age = np.zeros(num_rows, int)

    def select(self, rows: np.ndarray) -> None:
        self.age = self.age[rows]

    def restart(self, rows: np.ndarray) -> None:
        self.age = np.where(rows, 0, self.age)

    def logits(self, observations: np.ndarray) -> np.ndarray:
        assert len(observations) == len(self.age)
        moves = [self.towards(one) for one in observations]
        actions = np.where(self.age < self.patience, moves, 1)
        self.age = self.age + 1
        return 1000.0 * np.eye(3)[actions]

    def towards(self, observation: np.ndarray) -> int:
        ball, paddle = (
            np.argwhere((observation == np.array(colour)[:, None, None]).all(0))[:, 1].mean()
            for colour in (BALL_COLOUR, PADDLE_COLOUR)
        )
        return 1 + int(np.sign(ball - paddle))


def played(player, settings: Env = CATCH, **changes):
    options = {"num_episodes": 12, "num_envs": 4, "temperature": 1.0, "epsilon": 0.0, "seed": 3}
    return play_episodes(player, settings, **(options | changes))


def plain(episodes) -> list[tuple]:
    return [(e.score, e.length, e.frames, e.terminated, e.truncated, e.seed) for e in episodes]


def test_every_game_has_its_own_seed_and_the_scripted_player_wins_all() -> None:
    episodes = played(FollowOnce(patience=100))
    assert [e.score for e in episodes] == [1.0] * 12
    assert [(e.length, e.frames, e.terminated, e.truncated) for e in episodes] == [(9, 9, True, False)] * 12
    assert len({e.seed for e in episodes}) == 12


def test_a_new_game_starts_without_memory_and_the_others_keep_theirs() -> None:
    alone = plain(played(FollowOnce(patience=1), num_envs=1))
    assert plain(played(FollowOnce(patience=1), num_envs=5)) == alone
    assert len({score for score, *_ in alone}) == 2


@pytest.mark.parametrize("options", [{"num_envs": 1}, {"num_envs": 5}, {"num_envs": 3, "parallel": True}])
def test_results_do_not_depend_on_how_many_games_are_in_play(options) -> None:
    expected = plain(played(Uniform(4), BREAKOUT, num_episodes=4, num_envs=2))
    assert plain(played(Uniform(4), BREAKOUT, num_episodes=4, **options)) == expected
    assert len({length for _, length, *_ in expected}) > 1


def test_more_episodes_leave_the_first_ones_as_they_were() -> None:
    assert plain(played(Uniform(3), num_episodes=20))[:12] == plain(played(Uniform(3)))
    assert plain(played(Uniform(3), seed=4)) != plain(played(Uniform(3)))


def test_all_games_run_to_their_end_and_finished_ones_cost_nothing() -> None:
    player = Uniform(4)
    episodes = played(player, BREAKOUT, num_episodes=6, num_envs=4)
    assert all(e.terminated != e.truncated for e in episodes)
    assert sum(player.rows) == sum(e.length for e in episodes)
    assert player.rows[0] == 4
    assert player.rows == sorted(player.rows, reverse=True)


def test_the_time_limit_truncates_and_is_no_termination() -> None:
    limited = Env(**{**vars(BREAKOUT), "max_episode_steps": 81})
    assert plain(played(Uniform(4), limited, num_episodes=2))[0][1:5] == (20, 81, False, True)


def test_kept_episodes_are_what_was_played() -> None:
    episodes = played(Uniform(3), keep_episodes=5)
    assert [e.episode is not None for e in episodes] == [True] * 5 + [False] * 7
    for one in episodes[:5]:
        environment = make_environment(CATCH)
        observation, _ = environment.reset(seed=one.seed)
        for step in range(one.length):
            assert np.array_equal(one.episode.observations[step], observation)
            observation, reward, ended, *_ = environment.step(int(one.episode.actions[step]))
            assert one.episode.rewards[step] == reward
            assert one.episode.terminated[step] == ended
        assert one.episode.score == one.score


def first_actions(logits: list[float], **options) -> np.ndarray:
    """The first action of each of 600 games by a player with these logits."""

    class Fixed(Uniform):
        def logits(self, observations: np.ndarray) -> np.ndarray:
            return np.tile(logits, (len(observations), 1))

    episodes = played(Fixed(3), num_episodes=600, num_envs=100, keep_episodes=600, **options)
    return np.bincount([e.episode.actions[0] for e in episodes], minlength=3) / 600


def test_actions_are_drawn_at_the_temperature() -> None:
    for temperature in (0.5, 2.0):
        weights = np.exp(np.array([1.0, 0.0, -1.0]) / temperature)
        found = first_actions([1.0, 0.0, -1.0], temperature=temperature)
        np.testing.assert_allclose(found, weights / weights.sum(), atol=0.06)


def test_epsilon_mixes_in_uniform_actions() -> None:
    np.testing.assert_allclose(first_actions([50.0, 0, 0], epsilon=0.6), [0.6, 0.2, 0.2], atol=0.06)


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    settings = params.settings_from(["scale=smoke", "env.train.id=Catch"])
    return build_agent(settings, num_actions=3)


def test_an_agent_plays_the_same_games_in_any_number_of_environments(agent: Agent) -> None:
    alone = played(AgentPlayer(agent), num_episodes=6, num_envs=1)
    assert plain(played(AgentPlayer(agent), num_episodes=6, num_envs=4)) == plain(alone)
    assert not agent.training


def test_an_agents_player_remembers_each_row_apart(agent: Agent) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, size=(4, 3, 3, 64, 64), dtype=np.uint8)
    together, alone = AgentPlayer(agent), AgentPlayer(agent)
    together.begin(3)
    together.logits(frames[0])
    together.select(np.array([0, 2]))
    together.restart(np.array([False, True]))
    found = together.logits(frames[1][[0, 2]])
    alone.begin(1)
    alone.logits(frames[0][:1])
    np.testing.assert_allclose(found[:1], alone.logits(frames[1][:1]), atol=1e-5)
    alone.begin(1)
    np.testing.assert_allclose(found[1:], alone.logits(frames[1][2:]), atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-5)
