from pathlib import Path

import gymnasium
import numpy as np
import pytest

from irisflow import games
from irisflow.envs.make import make_environment
from irisflow.envs.pixels import PixelEnvironment
from irisflow.envs.toy import Catch
from irisflow.errors import ConfigError, EnvironmentFailure
from irisflow.schema import Env


def settings(env_id: str, **changes: object) -> Env:
    values = {"size": 64, "max_episode_steps": 100, "noop_max": 1, "frame_skip": 1} | changes
    return Env(id=env_id, done_on_life_loss=False, clip_reward=False, **values)


class Ramp(gymnasium.Env):
    """Grey that brightens by the action's number; actions 5, 6, 7."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, shows: bool = True) -> None:
        self.render_mode, self.shows, self.level = render_mode, shows, 0
        self.action_space = gymnasium.spaces.Discrete(3, start=5)
        picture = gymnasium.spaces.Box(0, 255, (100, 90, 3), np.uint8)
        self.observation_space = picture if shows else gymnasium.spaces.Discrete(256)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level = int(self.np_random.integers(10))
        return self.observe(), {}

    def step(self, action: int):
        self.level += action
        return self.observe(), 1.5, self.level > 60, False, {}

    def observe(self):
        return self.render() if self.shows else self.level

    def render(self):
        return np.full((100, 90, 3), self.level, np.uint8)


class Floats(Ramp):
    """Draws pictures of another kind."""

    def render(self):
        return np.full((100, 90, 3), 0.5, np.float32)


class Blind(gymnasium.Env):
    """Neither pictures nor discrete actions."""

    action_space = gymnasium.spaces.Box(0, 1, (2,))
    observation_space = gymnasium.spaces.Discrete(2)


gymnasium.register("RampPicture-v0", Ramp)
gymnasium.register("RampRendered-v0", Ramp, kwargs={"shows": False})
gymnasium.register("Blind-v0", Blind)
gymnasium.register("FloatsRendered-v0", Floats, kwargs={"shows": False})
gymnasium.register("Space/Ramp-v0", Ramp)
gymnasium.register("Continuous-v0", lambda: with_box_actions())


def with_box_actions() -> gymnasium.Env:
    environment = Ramp()
    environment.action_space = gymnasium.spaces.Box(0, 1, (2,))
    return environment


@pytest.mark.parametrize("env_id", ["RampPicture-v0", "RampRendered-v0"])
def test_any_environment_with_pictures_can_be_played(env_id: str) -> None:
    environment = make_environment(settings(env_id, frame_skip=2))
    assert isinstance(environment, PixelEnvironment)
    assert environment.num_actions == 3
    observation, _ = environment.reset(seed=0)
    after, reward, terminated, truncated, info = environment.step(1)
    assert after.shape == (3, 64, 64)
    assert (after.astype(int) - observation == 12).all()
    assert (reward, terminated, truncated, info["frames"]) == (3.0, False, False, 2)


def test_an_id_with_a_module_imports_it_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = 'gymnasium.register("OfModule-v0", "test_make:Ramp")'
    (tmp_path / "module_of_games.py").write_text(f"import gymnasium\n\n{register}\n")
    monkeypatch.syspath_prepend(tmp_path)
    environment = make_environment(settings("module_of_games:OfModule-v0"))
    assert isinstance(environment, PixelEnvironment)
    assert environment.reset(seed=0)[0].shape == (3, 64, 64)


def test_the_time_limit_of_other_environments_counts_their_steps() -> None:
    environment = make_environment(settings("RampPicture-v0", max_episode_steps=3))
    environment.reset(seed=0)
    flags = [environment.step(0)[2:4] for _ in range(4)]
    assert flags == [(False, False), (False, False), (False, True), (False, True)]


def test_equal_seeds_give_equal_pictures() -> None:
    environment = make_environment(settings("RampPicture-v0"))
    levels = [int(environment.reset(seed=seed)[0][0, 0, 0]) for seed in (1, 1, 2, 3, 4, 5)]
    assert levels[0] == levels[1]
    assert len(set(levels)) > 1


def test_an_environment_that_cannot_be_saved_says_so() -> None:
    with pytest.raises(EnvironmentFailure, match=r"RampPicture-v0 cannot be saved.*common\.do_checkpoint"):
        make_environment(settings("RampPicture-v0")).get_state()


def test_an_environment_without_pictures_is_refused() -> None:
    with pytest.raises(EnvironmentFailure, match=r"neither RGB observations .* nor the render mode"):
        make_environment(settings("Blind-v0"))


def test_an_environment_without_discrete_actions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has actions Box.*Allowed: discrete ones.*module:Name-v0"):
        make_environment(settings("Continuous-v0"))


def test_pictures_that_are_no_rgb_frames_are_refused_and_never_converted() -> None:
    with pytest.raises(EnvironmentFailure, match=r"shows float32 \[100, 90, 3\]. Allowed: RGB frames, uint8"):
        make_environment(settings("FloatsRendered-v0")).reset(seed=0)


def test_a_game_of_a_namespace_has_a_name_that_may_be_a_folder() -> None:
    assert games.game_of("Space/Ramp-v0") == "Space+Ramp-v0" == games.check_run_game("Space+Ramp-v0")
    assert make_environment(settings(games.env_id_of("Space+Ramp-v0"))).num_actions == 3
    assert games.check_run_game("minigrid:MiniGrid-Empty-5x5-v0") == "minigrid:MiniGrid-Empty-5x5-v0"
    for name, wanted in (
        ("Space/Ramp-v0", r"write Space\+Ramp-v0"),
        ("ALE+Pong-v5", "write Pong"),
        ("a+b", "not a name"),
    ):
        with pytest.raises(ConfigError, match=wanted):
            games.check_run_game(name)


@pytest.mark.parametrize(
    ("env_id", "hint"),
    [
        ("PongNoFrameskp-v4", "PongNoFrameskip-v4"),
        ("pong", "Pong"),
        ("breakoutNoFrameskip-v4", "BreakoutNoFrameskip-v4"),
        ("PongNoFrameskip-v9", "PongNoFrameskip-v"),
        ("ALE/Pong-v6", "ALE/Pong-v5"),
        ("Cach", "Catch"),
        ("no such module:Game-v0", "No module named 'no such module'"),
        (".relative:Game-v0", "Allowed"),
        ("", "Allowed"),
    ],
)
def test_an_unknown_id_is_one_line_with_the_nearest_names(env_id: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_environment(settings(env_id))
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_catch_takes_the_frame_size() -> None:
    environment = make_environment(settings("Catch", size=32))
    assert isinstance(environment, Catch)
    assert environment.observation_space.shape == (3, 32, 32)
