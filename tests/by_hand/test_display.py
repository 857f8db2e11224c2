"""The live display shows where a run is, and gives way to plain lines where it cannot be drawn."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from irisflow import progress
from irisflow.by_hand import display as live
from irisflow.by_hand.display import LiveDisplay
from irisflow.by_hand.outlets import has_live_display
from workspace import ROOT, environment


def shown(width: int = 100, height: int = 40, *, has_numbers: bool = True) -> str:
    """Return what the display shows in the middle of the tokenizer's phase of an epoch."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    display = LiveDisplay(title="iris/Pong/seed-0", folder=Path("outputs/run"), console=console)
    with progress.shown_on(display):
        if has_numbers:
            progress.announce("collect", epoch=3, num_epochs=10)
            display.write({"epoch": 3, "env_steps": 1200, "tokenizer/train/total": 0.5})
            display.write_timings(
                {"epoch": 3, "seconds/collect": 2.0, "seconds/tokenizer": 6.0, "updates_per_s/tokenizer": 3}
            )
            display.write({"epoch": 4, "env_steps": 1600, "tokenizer/train/total": 0.25})
            display.write_episodes(
                [{"dataset": "train_dataset", "episode_return": value} for value in (1, 5, 3)]
            )
        progress.announce("tokenizer", epoch=5, num_epochs=10)
        work = iter(progress.progress(range(8), what="epoch 5/10 tokenizer", unit="update"))
        for _ in range(3):
            next(work)
        progress.say("a line")
        console.print(display.render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))


def test_it_shows_epoch_phase_losses_returns_rates_time_left_and_memory() -> None:
    text = shown()
    for word in (
        "epoch 5/10",
        "tokenizer",
        "2/8 updates",
        "left",
        "0.25 ▼",
        "▁█▄",
        "mean 3",
        "MB",
        "1,600 steps",
        "outputs/run",
    ):
        assert word in text, (word, text)
    assert re.search(r"\[\d\d:\d\d:\d\d\] a line", text)


def test_it_shows_something_before_the_first_epoch_has_ended() -> None:
    text = shown(has_numbers=False)
    assert "epoch 5/10" in text and "after the first epoch" in text


@pytest.mark.parametrize(("width", "height"), [(live.LEAST_COLUMNS, live.LEAST_ROWS), (200, 60)])
def test_it_fits_any_terminal_on_which_it_is_shown(width: int, height: int) -> None:
    lines = shown(width, height).splitlines()
    assert max(map(len, lines)) <= width and len(lines) <= height


def test_it_becomes_one_line_where_the_terminal_is_made_too_small() -> None:
    lines = shown(40, 10).splitlines()
    assert lines[-1].startswith("epoch 5/10, tokenizer") and max(map(len, lines)) <= 40


def test_time_left_is_what_the_epochs_so_far_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    display = LiveDisplay(title="", folder=Path())
    display.announce("collect", 1, 5)
    clock[0] += 60
    display.announce("collect", 3, 5)  # two epochs took a minute: three are left
    assert display._left() == "0:01:30 left"


def on_terminal(folder: Path, *, columns: int, rows: int, term: str) -> str:
    """Return what a short run writes on a terminal of a size and kind."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {key: value for key, value in environment(ROOT).items() if key not in ("COLUMNS", "LINES")}
    line = (
        sys.executable, str(ROOT / "src/main.py"), "env.train.id=Catch", "scale=smoke", "common.device=cpu",
        "common.epochs=2", "wandb.mode=disabled", f"hydra.run.dir={folder}/run",
    )  # fmt: skip
    process = subprocess.Popen(
        line, cwd=folder, env={**variables, "TERM": term}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen, give_up = b"", time.monotonic() + 200
    while time.monotonic() < give_up:
        if select.select([ours], [], [], 1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    assert process.wait(60) == 0, seen
    os.close(ours)
    return seen.decode()


@pytest.mark.slow
def test_on_a_large_terminal_it_is_drawn_and_leaves_the_lines_and_the_cursor(tmp_path: Path) -> None:
    text = on_terminal(tmp_path, columns=100, rows=40, term="xterm-256color")
    assert "╭" in text and "epoch 1/2" in text and "updates" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is there again"
    assert "done after 64 steps" in " ".join(text.split()), "long lines are wrapped"


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows", "term"), [(100, 40, "dumb"), (50, 8, "xterm-256color")])
def test_elsewhere_there_are_plain_lines(tmp_path: Path, columns: int, rows: int, term: str) -> None:
    text = on_terminal(tmp_path, columns=columns, rows=rows, term=term)
    assert "╭" not in text and "epoch 2/2" in text
    if term == "dumb":
        assert "\x1b" not in text and not re.search(r"\r(?!\n)", text)


def test_a_file_gets_no_live_display_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert [has_live_display(mode) for mode in ("auto", "lines", "live")] == [False, False, True]
