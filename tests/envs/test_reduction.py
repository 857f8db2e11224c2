"""Reducing only what changed gives every pixel that reducing everything gives, and so does Pillow without a kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irisflow.envs import reduction
from irisflow.envs.atari import AtariEnvironment
from irisflow.envs.reduction import Reducer, resize


@pytest.fixture(autouse=True, params=[True, False], ids=["kernel", "Pillow"])
def is_by_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tests run with the kernel, and as if there were none."""
    if not request.param:
        monkeypatch.setattr(reduction, "_library", lambda *_: None)
    return bool(request.param)


by_kernel_only = pytest.mark.parametrize("is_by_kernel", [True], ids=["kernel"], indirect=True)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_frame_after_another_is_reduced_as_by_itself(data: st.DataObject) -> None:
    height, width = data.draw(
        st.sampled_from([(210, 160), (250, 160), (64, 64), (33, 70), (400, 601), (900, 100)])
    )
    size = data.draw(st.sampled_from([16, 50, 64, 84]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    reducer, frame = Reducer(size), rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(reducer(frame), resize(frame, size))
    for _ in range(3):
        for _ in range(data.draw(st.integers(0, 3))):
            first = data.draw(st.integers(0, height - 1))
            last = min(height, first + data.draw(st.integers(1, 60)))
            frame[first:last] = rng.integers(0, 256, (last - first, width, 3), dtype=np.uint8)
        assert np.array_equal(reducer(frame), resize(frame, size))


def test_one_changed_byte_is_noticed_and_earlier_results_stay() -> None:
    reducer, frame = Reducer(64), np.zeros((210, 160, 3), np.uint8)
    before = reducer(frame)
    frame[209, 159, 2] = 255
    after = reducer(frame)
    assert not before.any()
    assert np.array_equal(after, resize(frame, 64)) and after.any()


def test_a_frame_of_another_shape_is_reduced_whole() -> None:
    reducer, rng = Reducer(64), np.random.default_rng(0)
    for shape in ((210, 160, 3), (250, 160, 3), (210, 160, 3)):
        frame = rng.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(reducer(frame), resize(frame, 64))


@pytest.mark.parametrize("game", ["Breakout", "Alien", "Qbert", "BattleZone"])
def test_real_games_are_reduced_exactly(game: str) -> None:
    environment, reducer = AtariEnvironment(game), Reducer(64)
    environment.reset(seed=0)
    rng = np.random.default_rng(0)
    for action in rng.integers(environment.num_actions, size=60):
        environment.step(int(action))
        frame = environment.render()
        assert np.array_equal(reducer(frame), resize(frame, 64))


def test_colours_of_codes_are_asked_for_where_one_is_new(is_by_kernel: bool) -> None:
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    reducer, codes, asked = Reducer(64), np.zeros((210, 160), np.uint8), []

    def pixels() -> np.ndarray:
        asked.append(1)
        return palette[codes]

    for first, code in ((0, 0), (20, 1), (100, 1), (20, 0), (150, 255), (30, 255)):
        codes[first : first + 8, 159] = code
        assert np.array_equal(reducer(codes, pixels), resize(palette[codes], 64))
    assert len(asked) == (3 if is_by_kernel else 6), "once for each code, or for each frame"


@by_kernel_only
@pytest.mark.parametrize("shape", [(210, 160), (250, 160)])
def test_the_emulators_screens_are_reduced_by_a_kernel(shape: tuple[int, int]) -> None:
    assert reduction._library(shape, 64) is not None


@by_kernel_only
def test_a_kernel_that_gives_other_pixels_is_not_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reduction, "PRECISION", 21)
    assert reduction._library((33, 44), 16) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "other pixels than Pillow for frames of 33 x 44" in line
