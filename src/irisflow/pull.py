"""Results from a DVC remote in a fresh clone: fetched, verified, and known to Snakemake as current."""

import os
import subprocess
import sys
from pathlib import Path

from irisflow.errors import DataError


def pull(*, remote: str | None, study: str | None) -> None:
    """Fetch what `dvc.lock` names, check it, and mark it as current for Snakemake.

    `snakemake --touch` believes whatever lies there, so `dvc status` must find nothing changed first, and every byte is
    hashed again: DVC believes sizes and dates. Raises DataError if a step fails.
    """
    _step(["dvc", "pull", *(["--remote", remote] if remote else [])], "dvc pull failed")
    _step(["dvc", "status", "--quiet"], "the workspace differs from dvc.lock; see `dvc status`")
    verify = [sys.executable, "-m", "irisflow", "verify", *(["--study", study] if study else [])]
    _step(verify, "what came is not whole; `irisflow verify --set-aside`, then pull again")
    config = ["--config", f"study={study}"] if study else []
    touch = [
        "snakemake",
        "reports/summary.pdf",
        "--cores",
        "1",
        *config,
        "--touch",
        "--forceall",
        "--quiet",
        "all",
    ]
    _step(touch, "snakemake --touch failed")


def _step(command: list[str], failure: str) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    if subprocess.run(command, env=environment, check=False).returncode:
        raise DataError(f"{failure} ({' '.join(command)}).")
