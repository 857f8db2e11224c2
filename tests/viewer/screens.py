"""A real X server without a monitor, and a picture of what is on it."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

XVFB, XDOTOOL = shutil.which("Xvfb"), shutil.which("xdotool")
SIZE = (1280, 900)


@contextmanager
def virtual_display(folder: Path) -> Iterator[str]:
    """Start an X server of its own; yield its DISPLAY. Its framebuffer is a file in the folder."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [XVFB, "-displayfd", str(write), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-fbdir", str(folder), "-nolisten",
         "tcp"],
        pass_fds=(write,), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            yield f":{answer.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def screenshot(folder: Path) -> np.ndarray:
    """Return the X server's screen, (height, width, 3). The file is in xwd's format."""
    data = (folder / "Xvfb_screen0").read_bytes()
    fields = struct.unpack(">25I", data[:100])
    header, width, height, per_line, colours = fields[0], fields[4], fields[5], fields[12], fields[19]
    start = header + colours * 12
    rows = np.frombuffer(data, np.uint8, per_line * height, start).reshape(height, per_line)
    return rows.reshape(height, -1, 4)[:, :width, 2::-1]


def wait_until(true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Return when something is so."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if true():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} never happened")


def hit(display: str, *keys: str) -> None:
    """Press and release keys of the X server's keyboard."""
    subprocess.run([XDOTOOL, "key", *keys], env={**os.environ, "DISPLAY": display}, check=True)
