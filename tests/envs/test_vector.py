import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from irisflow.envs.make import make_environment
from irisflow.envs.processes import ParallelEnvironments
from irisflow.envs.serial import SerialEnvironments
from irisflow.envs.vector import make_environments
from irisflow.errors import EnvironmentFailure, IrisflowError
from irisflow.schema import Env

BREAKOUT = Env(
    id="BreakoutNoFrameskip-v4",
    size=64,
    max_episode_steps=60,
    noop_max=30,
    frame_skip=4,
    done_on_life_loss=False,
    clip_reward=False,
)


def test_processes_and_one_process_give_the_same_games() -> None:
    pair = make_environments(BREAKOUT, 2, parallel=True), make_environments(BREAKOUT, 2, parallel=False)
    assert isinstance(pair[0], ParallelEnvironments)
    assert isinstance(pair[1], SerialEnvironments)
    rng = np.random.default_rng(0)
    first = [environments.reset([11, 12]) for environments in pair]
    assert np.array_equal(*first)
    for step in range(20):
        if step == 15:
            assert np.array_equal(*[environments.reset([None, 5]) for environments in pair])
        actions = rng.integers(4, size=2)
        steps = [environments.step(actions) for environments in pair]
        for name in ("observations", "rewards", "terminated", "truncated", "frames"):
            found, expected = (getattr(step, name) for step in steps)
            assert np.array_equal(found, expected)
            assert found.dtype == expected.dtype
    assert not np.array_equal(*steps[0].observations)
    assert steps[0].truncated.tolist() == [True, False]
    for environments in pair:
        environments.close()


@pytest.mark.parametrize("num_processes", [1, 2, 3, 5])
def test_any_number_of_processes_gives_the_same_games(num_processes: int) -> None:
    makers = [lambda: make_environment(BREAKOUT)] * 3
    pair = ParallelEnvironments(makers, size=64, num_processes=num_processes), SerialEnvironments(makers)
    assert len(pair[0].processes) == min(num_processes, 3) - 1 and pair[0].num_actions == pair[1].num_actions
    assert np.array_equal(*[environments.reset([1, 2, 3]) for environments in pair])
    steps = [environments.step(np.array([0, 2, 3])) for environments in pair]
    assert np.array_equal(*(step.observations for step in steps))
    pair[0].close()
    assert not any(process.is_alive() for process in pair[0].processes)


def test_one_environment_needs_no_process() -> None:
    assert isinstance(make_environments(BREAKOUT, 1, parallel=True), SerialEnvironments)


@pytest.fixture
def parallel() -> ParallelEnvironments:
    environments = ParallelEnvironments(
        [lambda: make_environment(BREAKOUT)] * 3, size=64, num_processes=3, seconds_to_answer=2.0
    )
    environments.reset([1, 2, 3])
    return environments


def test_a_killed_process_ends_the_work_with_one_line(parallel: ParallelEnvironments) -> None:
    processes = parallel.processes
    os.kill(processes[1].pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="number 2 died with exit code -9") as caught:
        for _ in range(3):
            parallel.step(np.zeros(3, np.int64))
    assert "\n" not in str(caught.value)
    parallel.close()
    processes[0].join(5)
    assert not processes[0].is_alive()


def test_a_silent_process_ends_the_work_with_one_line(parallel: ParallelEnvironments) -> None:
    os.kill(parallel.processes[0].pid, signal.SIGSTOP)
    with pytest.raises(EnvironmentFailure, match=r"2\.0 second"):
        parallel.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("index", [0, 2], ids=["in this process", "in another"])
def test_an_environment_that_raises_ends_the_work_with_one_line(
    parallel: ParallelEnvironments, index: int
) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        parallel.step(np.eye(3, dtype=np.int64)[index] * 99)
    assert "IndexError" in str(caught.value)
    assert "\n" not in str(caught.value)
    parallel.close()
    for process in parallel.processes:
        process.join(5)
        assert not process.is_alive()


def test_a_game_that_cannot_be_made_ends_the_work_as_in_one_process() -> None:
    unknown = replace(BREAKOUT, id="NoSuchGame-v0")
    with pytest.raises(IrisflowError) as alone:
        SerialEnvironments([lambda: make_environment(unknown)])
    with pytest.raises(type(alone.value)) as caught:
        ParallelEnvironments([lambda: make_environment(unknown)] * 2, size=64, num_processes=2)
    assert str(caught.value) == str(alone.value)
