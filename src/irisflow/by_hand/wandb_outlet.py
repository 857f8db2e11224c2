"""Weights & Biases for a run by hand. Training only puts rows into a queue: it never waits for them."""

import json
import netrc
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from irisflow import schema
from irisflow.by_hand import wandb_child
from irisflow.errors import ConfigError
from irisflow.progress import say
from irisflow.storage import json_bytes, write_atomically
from irisflow.training.metrics import Metrics, with_duration

BASE_URL = "https://api.wandb.ai"
SECONDS_TO_FINISH = 30.0
SECONDS_BEYOND = (
    35.0  # for beginning and for offline files; then the process is ended: what it has is on disk
)
NO_LOGIN = "Weights & Biases: off, there is no login (`wandb login`, or wandb.mode=offline); metrics.jsonl has all numbers"
MODES = ("online", "offline", "disabled")


def chosen_mode(mode: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return online, offline or disabled; `auto` is WANDB_MODE's word, or online where there is a login.

    Raises ConfigError for `online` without a login. Nothing is asked over a network.
    """
    if mode == "online" and not has_login(environment):
        raise ConfigError(
            "wandb.mode=online: there is no login (neither WANDB_API_KEY nor ~/.netrc). Type `wandb login` first, or"
            " wandb.mode=offline and `wandb sync` later."
        )
    if mode != "auto":
        return mode
    if environment.get("WANDB_MODE") in MODES:
        return chosen_mode(environment["WANDB_MODE"], environment)
    return "online" if has_login(environment) else "disabled"


def has_login(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a key for Weights & Biases is in WANDB_API_KEY or in ~/.netrc."""
    if environment.get("WANDB_API_KEY"):
        return True
    home = Path(environment.get("HOME", "~")).expanduser()
    for path in (Path(environment.get("NETRC", home / ".netrc")), home / "_netrc"):
        with suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(str(path)).authenticators(urlsplit(_base_url(environment)).hostname or ""):
                return True
    return False


def _base_url(environment: Mapping[str, str]) -> str:
    return environment.get("WANDB_BASE_URL") or BASE_URL


class WandbOutlet:
    """Hands rows to a process that logs them: online, offline, or offline because the network is gone."""

    def __init__(self, settings: schema.Wandb, mode: str, *, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder / "wandb"
        self.folder.mkdir(exist_ok=True)
        self._rows: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process = self._started()
        self._writer = threading.Thread(target=self._write_all, name="wandb rows", daemon=True)
        self._reader = threading.Thread(target=self._read_all, name="wandb answers", daemon=True)
        self._is_finished = False
        self._rows.put(
            {
                **{name: getattr(settings, name) for name in ("project", "entity", "name", "group", "notes")},
                "tags": list(settings.tags or []),
                "mode": mode,
                "id": self._id(),
                "config": config,
                "dir": str(folder.absolute()),
                "base_url": _base_url(os.environ),
                "seconds_to_finish": SECONDS_TO_FINISH,
                "pid": os.getpid(),
            }
        )
        self._writer.start()
        self._reader.start()

    def write(self, metrics: Metrics) -> None:
        """Log one epoch."""
        self._rows.put({"row": dict(metrics)})

    def write_timings(self, timings: Metrics) -> None:
        """Log what the epoch's phases took, as a row of its own: the epoch's numbers do not wait for the checkpoint."""
        self._rows.put({"row": with_duration(timings)})

    def write_episodes(self, rows: Sequence[dict[str, Any]]) -> None:
        """Log each episode: number, return, length and the histogram of its actions."""
        for row in rows:
            numbers = {
                f"{row['dataset']}/{name}": row[name]
                for name in ("episode_num", "episode_return", "episode_length")
            }
            histogram = {f"{row['dataset']}/action_histogram": row["action_histogram"]}
            self._rows.put({"row": {"epoch": row["epoch"], **numbers}, "histograms": histogram})

    def close(self, exit_code: int = 0) -> None:
        """Finish, within a bounded time. What could not be sent stays on disk, for `wandb sync`."""
        self._rows.put({"exit_code": exit_code})
        self._rows.put(None)
        try:
            self._process.wait(SECONDS_TO_FINISH + SECONDS_BEYOND)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(1)
        if not self._is_finished:
            say(f"Weights & Biases did not finish; what it has: `wandb sync {self.folder}/*run-*`")

    def _started(self) -> "subprocess.Popen[str]":
        """Return the process; a session of its own keeps Ctrl-C from it."""
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", wandb_child.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def _id(self) -> str:
        """Return the run's name in Weights & Biases, which it keeps when it goes on."""
        path = self.folder / "id.json"
        try:
            return str(json.loads(path.read_bytes())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            chosen = secrets.token_hex(4)
            write_atomically(path, json_bytes({"id": chosen}))
            return chosen

    def _write_all(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended: the reader says so
            while (row := self._rows.get()) is not None:
                self._process.stdin.write(json.dumps(row) + "\n")
                self._process.stdin.flush()
            self._process.stdin.close()

    def _read_all(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._is_finished = answer["state"] == "finished"
            if text := _told(answer, self.folder):
                say(f"Weights & Biases: {text}")
        if not self._is_finished and self._process.wait():
            say(
                f"Weights & Biases has stopped (see {self.folder / 'log.txt'}); metrics.jsonl has all numbers"
            )


def _told(answer: Mapping[str, Any], folder: Path) -> str | None:
    sync = f"send it later with `wandb sync {folder}/offline-run-*`"
    return {
        "online": f"{answer.get('url')}",
        "offline": f"offline; {sync}",
        "unreachable": f"offline, {_base_url(os.environ)} does not answer; {sync}",
        "refused": f"offline, the log-in or the connection failed (see {folder / 'log.txt'}); {sync}",
    }.get(answer["state"])
