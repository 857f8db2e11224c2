import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygame
import pytest
from PIL import Image
from playable import press, publish_agent, run_folder, show
from screens import XDOTOOL, XVFB, hit, screenshot, virtual_display, wait_until

import workspace
from irisflow.viewer.screen import HEIGHT, LEFT, SIDE, TOP, WIDTH
from irisflow.viewer.window import Window, name_of

pytestmark = pytest.mark.skipif(
    XVFB is None or XDOTOOL is None, reason="needs Xvfb and xdotool: apt-get install xvfb xdotool"
)
FRAME = np.s_[TOP : TOP + SIDE, LEFT : LEFT + SIDE]


@pytest.fixture
def display(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "x").mkdir()
    with virtual_display(tmp_path / "x") as name:
        yield name


def started(folder: Path, display: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**workspace.environment(workspace.ROOT), "DISPLAY": display}
    return subprocess.Popen(
        [sys.executable, "-m", "irisflow", "play", str(folder), *arguments],
        env={**environment, "SDL_AUDIODRIVER": "dummy"}, cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def seen(tmp_path: Path) -> np.ndarray:
    """The window, as the X server shows it."""
    picture = screenshot(tmp_path / "x")
    top, left = (900 - HEIGHT) // 2, (1280 - WIDTH) // 2
    rows, columns = np.nonzero((picture == (18, 20, 24)).all(-1))
    if len(rows):
        top, left = max(0, rows.min() - 40), columns.min()
    return picture[: HEIGHT + top, : WIDTH + left][-HEIGHT:, -WIDTH:]


def keep(picture: np.ndarray, name: str) -> None:
    """Save a screenshot where someone wants to look at it."""
    if folder := os.environ.get("IRISFLOW_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(Path(folder) / f"{name}.png")


@pytest.mark.slow
def test_a_real_window_is_played_by_keys(tmp_path: Path, display: str) -> None:
    run = run_folder(tmp_path / "run")
    process = started(run, display, "-h", "-r", "original")
    try:
        wait_until(lambda: seen(tmp_path)[FRAME].any(), "the window")
        keep(screenshot(tmp_path / "x"), "window_real")
        before = seen(tmp_path).copy()
        wait_until(lambda: (seen(tmp_path) != before).any(), "a step")
        hit(display, "Tab", "m", "g")
        wait_until(
            lambda: (seen(tmp_path)[: TOP - 20, 500:] == (230, 159, 0)).all(-1).any(), "the badge `you`"
        )
        keep(screenshot(tmp_path / "x"), "window_world_model")
        hit(display, "comma")
        wait_until(lambda: list((run / "media" / "recordings").glob(".*.mp4")), "a recording")
        still = seen(tmp_path).copy()
        wait_until(lambda: (seen(tmp_path) != still).any(), "another step")
        hit(display, "Right", "comma", "f", "Left")
        wait_until(lambda: list((run / "media" / "recordings").glob("2*.npz")), "the end of the recording")
        hit(display, "Left")
        wait_until(
            lambda: (seen(tmp_path)[TOP + SIDE + 14 :, :600] == (86, 180, 233)).all(-1).any(), "futures"
        )
        keep(screenshot(tmp_path / "x"), "window_futures")
        hit(display, "Escape")
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert "steps" in told
    (recording,) = (run / "media" / "recordings").glob("*.npz")
    arrays = np.load(recording)
    assert recording.with_suffix(".mp4").is_file()
    assert arrays["frames"].shape[1:] == (64, 64, 3)
    assert len(arrays["frames"]) == len(arrays["actions"]) > 1
    assert arrays["imagined"].all()


def test_without_a_display_one_line_says_what_to_type_instead(tmp_path: Path) -> None:
    folder = publish_agent(tmp_path / "agent")
    variables = {
        k: v
        for k, v in workspace.environment(workspace.ROOT).items()
        if k not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    result = subprocess.run(
        [sys.executable, "-m", "irisflow", "play", str(folder)],
        env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 4
    assert workspace.own_lines(result.stderr) == result.stderr.splitlines()
    assert "--record FILE.mp4" in result.stderr
    assert "--web" in result.stderr


def test_the_window_shows_what_the_screen_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    one = show(publish_agent(tmp_path / "agent"), "-h")
    window = Window("test")
    try:
        press(one, ".")
        window.run(one, num_steps=0)
        window._draw(one)
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert (shown == one.picture()).all()
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_h))
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        window.run(one)
    finally:
        window.close()
    assert not one.session.shown.header
    assert one.session.is_done


def test_keys_are_named_by_their_character() -> None:
    names = {
        pygame.K_COMMA: ",",
        pygame.K_LEFTBRACKET: "[",
        pygame.K_TAB: "tab",
        pygame.K_m: "m",
        pygame.K_F1: None,
    }
    for code, name in names.items():
        assert name_of(pygame.event.Event(pygame.KEYDOWN, key=code)) == name
