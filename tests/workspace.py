"""Copies of this checkout to run real commands in: their code, parameters and artefacts are their own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = (
    "Snakefile", "workflow", "params", "profiles", "src", "scripts", "dvc.yaml", ".dvc", ".dvcignore", ".gitignore",
    "pyproject.toml", "reports/.gitkeep",
)  # fmt: skip
LEFT_OUT = ("__pycache__", "*.pyc", "*.egg-info", "cache", "tmp", "config.local")
REPORT = "reports/summary.pdf"
STUDY_TITLE = "Smoke test of the whole chain"


def copy_checkout(folder: Path, *, study: str = "smoke") -> Path:
    """Return `folder` as a git repository with this checkout's pipeline, whose default study is `study`."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy2(source, target)
    kernels = ROOT / ".cache/kernels"
    if kernels.exists():  # they belong to their source, which is the same
        shutil.copytree(kernels, folder / ".cache/kernels")
    edit(folder / "params/workflow.yaml", r"study: \w+", f"study: {study}")
    edit(folder / "dvc.yaml", r"scale: \w+", f"scale: {study}")
    git(folder, "init", "--quiet")
    commit(folder, "Copy the checkout")
    return folder


def copy_workspace(source: Path, folder: Path) -> Path:
    """Return a copy of a workspace with its artefacts, times and Snakemake's records."""
    shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Return what a git command prints. It must succeed."""
    name = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    return run(folder, "git", *name, *arguments, check=True).stdout


def commit(folder: Path, message: str) -> None:
    """Commit all that git does not ignore."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def environment(folder: Path) -> dict[str, str]:
    """Return the variables under which commands in `folder` run the code of that folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("SNAKE", "IRISFLOW", "DVC"))
    }
    return {**kept, "PATH": path, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}


def run(
    folder: Path, *command: str, check: bool = False, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Return the finished command; with `check` it must have succeeded."""
    result = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=500, input=stdin
    )
    assert not check or result.returncode == 0, f"{command} failed:\n{result.stdout}\n{result.stderr}"
    return result


def start(folder: Path, *command: str, has_own_session: bool = False) -> "subprocess.Popen[str]":
    """Return a command that runs; in a session of its own, a signal to its group reaches nobody else."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=has_own_session,
    )


def wait_for(pattern: str, folder: Path, process: "subprocess.Popen[str]") -> Path:
    """Return the file once it is there, while the process still runs."""
    give_up = time.monotonic() + 300
    while time.monotonic() < give_up:
        if found := [path for path in folder.glob(pattern) if path.stat().st_size]:
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"{pattern} never came")


def irisflow(folder: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Return a finished `irisflow` command."""
    return run(folder, sys.executable, "-m", "irisflow", *arguments, check=check)


def snakemake(folder: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Return a finished `snakemake` command."""
    return run(folder, sys.executable, "-m", "snakemake", *arguments, check=check)


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run plans; `all` and other rules without work are left out."""
    result = snakemake(folder, *(arguments or (REPORT,)), "--dry-run", "--quiet", "rules", check=True)
    table = re.search(
        r"^job +count\n[- ]+\n(.*?)^total", result.stdout + result.stderr, re.DOTALL | re.MULTILINE
    )
    rows = [line.split() for line in table[1].splitlines()] if table else []
    if not rows:
        assert "Nothing to be done" in result.stdout + result.stderr, result.stdout + result.stderr
    return {
        rule: int(count)
        for rule, count in rows
        if rule not in ("all", "agents", "scores", "datasets", "pretrained")
    }


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace the one match of a pattern in a file."""
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"))
    assert count == 1, f"{pattern} matches {count} times in {path}"
    path.write_text(text, encoding="utf-8")


def snapshot(folder: Path) -> dict[str, str]:
    """Return each file's and folder's path and content digest, without caches and Snakemake's own records."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not {".snakemake", ".cache", "__pycache__", ".git"} & set(name.parts):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def own_lines(stderr: str) -> list[str]:
    """Return the lines in which irisflow itself speaks."""
    return [line for line in stderr.splitlines() if line.startswith("irisflow: ")]
