"""Which GPUs this machine has, and which of them a job computes on. Needs no torch: the workflow asks before it starts any.

A job that finds several GPUs takes the one on which the fewest jobs are, and sees no other.
"""

import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
_held: list[IO[bytes]] = []  # open files keep their locks until the process ends


def cards(*, environment: Mapping[str, str] = os.environ, devices: Path = DEVICES) -> list[str]:
    """Return the names of the NVIDIA GPUs that a process may use: those of CUDA_VISIBLE_DEVICES, or else all."""
    found = sorted(int(name) for file in devices.glob("nvidia[0-9]*") if (name := file.name[6:]).isdigit())
    if not found or VISIBLE not in environment:
        return [str(number) for number in found]
    chosen = []
    for name in filter(None, map(str.strip, environment[VISIBLE].split(","))):
        if name.startswith("-"):  # CUDA ignores what follows
            break
        chosen.append(name)
    return chosen


def num_slots(device: str) -> int:
    """Return how many of the profile's `gpu` slots a job takes whose `common.device` is this."""
    return int(device.startswith("cuda") or (device == "auto" and bool(cards())))


def settle(device: str, *, devices: Path = DEVICES) -> None:
    """Let this process see only the GPU on which the fewest jobs are, if `common.device` leaves the choice to it.

    Must come before CUDA is used. Jobs count each other by locked files in a folder of this user; a lock ends with its
    process.
    """
    names = cards(devices=devices)
    if device not in ("auto", "cuda") or len(names) < 2 or _held:
        return
    folder = Path(tempfile.gettempdir()) / f"irisflow-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "LOCK").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # one job chooses at a time
        name = min(names, key=lambda name: _num_jobs(folder / name))
        mine = (folder / name / str(os.getpid())).open("ab")
        fcntl.flock(mine, fcntl.LOCK_EX)
        _held.append(mine)
    os.environ[VISIBLE] = name


def _num_jobs(folder: Path) -> int:
    """Return how many processes hold a file of a GPU's folder; files of those that have ended go."""
    folder.mkdir(exist_ok=True)
    return sum(_is_held(path) for path in folder.iterdir())


def _is_held(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    path.unlink()
    return False
