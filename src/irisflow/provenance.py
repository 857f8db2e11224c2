"""What a result stands on: code, versions, hardware, seeds, inputs, and what it cost."""

import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import psutil

from irisflow.params import ROOT
from irisflow.storage import sha256_of

LOCK = "requirements.lock"
PACKAGES = (
    "torch", "torchvision", "numpy", "gymnasium", "ale-py", "hydra-core", "snakemake", "dvc", "rliable", "arch", "pandas",
)  # fmt: skip


def record(
    stage: str,
    digest: str,
    *,
    git: Mapping[str, Any],
    seeds: Mapping[str, int],
    inputs: list[Path],
    computing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the provenance of one stage, as JSON-able data. Nothing in it reads the clock.

    `git` is the state of the checkout when the stage began, `computing` on what and how torch computed: nothing for a stage
    that does not compute with torch.
    """
    lock = ROOT / LOCK
    return {
        "stage": stage,
        "digest": digest,
        **git,
        "lock_sha256": sha256_of(lock) if lock.is_file() else None,
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": hardware(),
        "computing": dict(computing or {}),
        "seeds": dict(seeds),
        "inputs": {str(path): sha256_of(path) for path in inputs},
        "command": shlex.join(["irisflow", *sys.argv[1:]]),
    }


def hardware() -> dict[str, Any]:
    """Return what the machine is: system, processor, cores (those that a job may not use, too), memory in GB."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }


class Starts(Protocol):
    """Counts how often work was started, and how its starts ended."""

    def note_resumed(self) -> None:
        """Note that the start which is at work goes on from a checkpoint."""

    def counts(self) -> Mapping[str, int]:
        """Return how often what happened."""


class Cost:
    """Measures one stage: wall-clock seconds from construction, the process's peak memory, and starts where these count."""

    def __init__(self, stage: str, **run: Any) -> None:
        self.run = {"stage": stage, **run}
        self.start = time.monotonic()
        self.earlier_s = 0.0
        self.starts: Starts | None = None

    @property
    def wall_s(self) -> float:
        """Seconds so far, those before a resume included."""
        return self.earlier_s + time.monotonic() - self.start

    def go_on(self, earlier_s: float) -> None:
        """Take in the seconds up to the checkpoint from which the work now goes on."""
        self.earlier_s = earlier_s
        if self.starts is not None:
            self.starts.note_resumed()

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
            **(self.starts.counts() if self.starts is not None else {}),
            "wall_s": round(self.wall_s, 3),
            "env_steps": env_steps,
            "num_updates": dict(num_updates or {}),
            "peak_rss_mb": round(peak_kb / 1024, 1),
            "device": device,
            "parameters": dict(parameters) if parameters else None,
        }


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
