"""The values of composed configurations, kept between processes.

Composing takes .3 s: ten variants would cost each `snakemake` 3 s, and on a cluster each of its jobs, which read the
workflow again. The stages of a run share its configuration so, too.
What is kept belongs to the bytes of `params/`, of this package and to the versions of what composes: a change of any makes
it anew, and so does damage, which the sha256 in a file's first line tells. Only what passed every check is kept, so that a
wrong configuration is refused each time.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from irisflow import params, source
from irisflow.errors import ConfigError
from irisflow.params import Choice
from irisflow.storage import write_atomically
from irisflow.written import written

KEPT = params.ROOT / ".cache" / "compositions"
COMPOSERS = ("hydra-core", "omegaconf", "PyYAML")


@cache
def values(choice: Choice) -> Mapping[str, Any]:
    """Return the configuration of a choice, resolved and checked, as plain data. Raises ConfigError as `params.compose`."""
    return _kept(choice, "values", lambda: OmegaConf.to_container(params.compose(choice)))


def keep_all(choices: Iterable[Choice]) -> None:
    """Compose what is not kept of some choices, on all cores. A wrong one is passed over: `values` says what is wrong."""
    lacking = [choice for choice in choices if _read(_file(choice, "values")) is None]
    number = min(len(lacking), len(os.sched_getaffinity(0)))
    if number < 2 or threading.active_count() > 1:  # a fork of a process with threads may hang
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(number, fork, _leave_interrupts) as pool, suppress(BrokenProcessPool):
        list(pool.map(_keep_values, lacking))


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the process that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_values(choice: Choice) -> None:
    with suppress(ConfigError):
        values(choice)


@cache
def as_written(choice: Choice) -> Mapping[str, Any]:
    """Return the configuration of a choice as `written` does."""
    return _kept(choice, "written", lambda: written(choice))


def _kept(choice: Choice, kind: str, compose: Callable[[], Any]) -> Mapping[str, Any]:
    """Return what was kept of a choice, or compose and keep it."""
    file = _file(choice, kind)
    if (kept := _read(file)) is not None:
        return kept
    composed = cast(dict[str, Any], compose())
    _keep(file, composed)
    return composed


def _file(choice: Choice, kind: str) -> Path:
    return KEPT / _state() / f"{_sha256(f'{kind} {choice!r}'.encode())}.json"


def _read(file: Path) -> dict[str, Any] | None:
    """Return what a file keeps; None if it is not there or damaged."""
    with suppress(OSError):
        digest, _, text = file.read_bytes().partition(b"\n")
        if digest.decode(errors="replace") == _sha256(text):
            return cast(dict[str, Any], json.loads(text))
    return None


def planned_digest(stage: str, choice: Choice, game: str, seed: int) -> str:
    """Return what `params.digest` gives for a choice's configuration. Games and seeds share a composition and a slice."""
    return params.with_identity(_choice_digest(stage, choice), game, seed)


@cache
def _choice_digest(stage: str, choice: Choice) -> str:
    return params.digest_of_slice(stage, params.stage_slice(stage, values(choice)))


@cache
def _state() -> str:
    """Return the digest of all that a composition depends on beside the choice."""
    parts = [sys.version, *(f"{name} {version(name)}" for name in COMPOSERS)]
    for folder, pattern in ((params.PARAMS, "*.yaml"), (source.PACKAGE, "*.py")):
        parts += [
            f"{file.relative_to(folder)} {_sha256(file.read_bytes())}"
            for file in sorted(folder.rglob(pattern))
        ]
    return _sha256("\n".join(parts).encode())


def _keep(file: Path, composed: Mapping[str, Any]) -> None:
    """Write a composition, and forget those of another state. What cannot be written is composed again the next time."""
    text = json.dumps(composed).encode()
    if json.loads(text) != composed:
        return
    with suppress(OSError):
        if not file.parent.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            for other in set(KEPT.iterdir()) - {file.parent}:
                shutil.rmtree(other, ignore_errors=True)
        write_atomically(file, _sha256(text).encode() + b"\n" + text)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
