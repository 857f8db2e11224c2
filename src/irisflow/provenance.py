"""What a result stands on: code, versions, hardware, seeds, inputs, and what it cost."""

import hashlib
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from irisflow.params import ROOT
from irisflow.storage import sha256_of

PACKAGES = (
    "torch", "torchvision", "numpy", "gymnasium", "ale-py", "hydra-core", "snakemake", "dvc", "rliable", "arch", "pandas",
)  # fmt: skip


def record(
    stage: str,
    digest: str,
    *,
    seeds: Mapping[str, int],
    inputs: list[Path],
    device: str | None = None,
    num_threads: int | None = None,
) -> dict[str, Any]:
    """Return the provenance of one stage, as JSON-able data. Nothing in it reads the clock.

    A stage that does not compute with torch has neither device nor threads.
    """
    computing = {"device": device, "torch_threads": num_threads}
    return {
        "stage": stage,
        "digest": digest,
        **git_state(),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": hardware(),
        "computing": {key: value for key, value in computing.items() if value is not None},
        "seeds": dict(seeds),
        "inputs": {str(path): sha256_of(path) for path in inputs},
        "command": shlex.join(["irisflow", *sys.argv[1:]]),
    }


def git_state() -> dict[str, Any]:
    """Return commit, branch, whether tracked files differ and the sha256 of how; None where there is no git.

    `dvc.lock` may differ.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        branch = _git("rev-parse", "--abbrev-ref", "HEAD")
        changes = _git_bytes(
            "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color", "--", ".", ":!dvc.lock"
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "branch": None, "dirty": None, "diff_sha256": None}
    sha256 = hashlib.sha256(changes).hexdigest() if changes else None
    return {"commit": commit, "branch": branch, "dirty": bool(changes), "diff_sha256": sha256}


def hardware() -> dict[str, Any]:
    """Return what the machine is: system, processor, cores (those that a job may not use, too), memory in GB."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }


class Cost:
    """Measures one stage: wall-clock seconds from construction, and the process's peak memory."""

    def __init__(self, stage: str, **run: Any) -> None:
        self.run = {"stage": stage, **run}
        self.start = time.monotonic()
        self.earlier_s = 0.0

    @property
    def wall_s(self) -> float:
        """Seconds so far, those before a resume included."""
        return self.earlier_s + time.monotonic() - self.start

    def record(
        self,
        *,
        env_steps: int = 0,
        num_updates: Mapping[str, int] | None = None,
        device: str = "cpu",
        parameters: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Return the cost as JSON-able data."""
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            **self.run,
            "wall_s": round(self.wall_s, 3),
            "env_steps": env_steps,
            "num_updates": dict(num_updates or {}),
            "peak_rss_mb": round(peak_kb / 1024, 1),
            "device": device,
            "parameters": dict(parameters) if parameters else None,
        }


def _git(*arguments: str) -> str:
    return _git_bytes(*arguments).decode(errors="replace").strip()


def _git_bytes(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
