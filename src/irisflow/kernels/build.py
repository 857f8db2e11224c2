"""Compiles the kernels for this machine when they are first wanted, and keeps what was compiled."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from irisflow.errors import ConfigError

SWITCH = "IRISFLOW_KERNELS"  # of the environment: `off` leaves everything to torch
COMPILERS = ("g++", "c++")  # tried in this order unless CXX names one
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"),
    *("-fPIC", "-shared"),
)
THREADS = "-fopenmp"
SOURCES = Path(__file__).parent
KEPT = SOURCES.parents[2] / ".cache" / "kernels"


@dataclass(frozen=True)
class Kernels:
    """Compiled kernels and who compiled them; where there are none, why."""

    library: ctypes.CDLL | None
    compiler: str | None = None
    missing: str | None = None


def library() -> ctypes.CDLL | None:
    """Return torch's kernels, or None where there are none."""
    return kernels().library


@cache
def kernels() -> Kernels:
    """Return the kernels that compute with torch's tensors, those of this folder, and with its threads."""
    return compiled(tuple(sorted(SOURCES.glob("*.[ch]pp"))), THREADS)


@cache
def compiled(sources: tuple[Path, ...], *flags: str) -> Kernels:
    """Return kernels, compiled now if they were not before. Raises ConfigError if the switch is neither on nor off."""
    switch = os.environ.get(SWITCH, "on")
    if switch not in ("on", "off"):
        raise ConfigError(f"{SWITCH} (environment) is {switch!r}; allowed: on, off.")
    if switch == "off":
        return Kernels(None, missing=f"{SWITCH}=off")
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        return Kernels(None, missing=f"no C++ compiler (looked for {', '.join(COMPILERS)} and CXX)")
    words = shlex.split(compiler)
    try:
        version = _said([*words, "--version"])
        if "clang" in version:
            return Kernels(None, missing=f"{compiler} is clang, whose OpenMP is not torch's: g++ is wanted")
        command = [*words, *FLAGS, *flags]
        return Kernels(_loaded(command, version, sources), version.partition("\n")[0].strip())
    except subprocess.CalledProcessError as error:
        code = f"exit code {error.returncode}"
        first = next((line.strip() for line in error.stderr.splitlines() if "error" in line), code)
        return Kernels(None, missing=f"{compiler} cannot compile the kernels: {first}")
    except (OSError, subprocess.SubprocessError) as error:
        return Kernels(None, missing=f"{compiler}: {error}")


def _loaded(command: list[str], version: str, sources: Sequence[Path]) -> ctypes.CDLL:
    """Return the compiled kernels; a file that cannot be loaded is made anew."""
    file = _file(command, version, sources)
    try:
        return ctypes.CDLL(str(file))
    except OSError:
        file.unlink()
        return ctypes.CDLL(str(_file(command, version, sources)))


def _file(command: list[str], version: str, sources: Sequence[Path]) -> Path:
    """Return the file of compiled kernels; it belongs to their source, the compiler, its flags and the processor."""
    texts = [source.read_text(encoding="utf-8") for source in sources]
    state = "\0".join([version, *command, _processor(), *texts])
    folder = _folder()
    file = folder / f"{hashlib.sha256(state.encode()).hexdigest()}.so"
    if not file.exists():
        units = [str(path) for path in sources if path.suffix == ".cpp"]
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work) / file.name
            _said([*command, "-o", str(made), *units])
            made.replace(file)  # whoever compiles them at the same time puts the same there
    return file


def _folder() -> Path:
    """Return where compiled kernels are kept: in the clone, or where that cannot be written, among temporary files.

    Raises PermissionError if that one is another user's: what lies there is run.
    """
    nearest = next(path for path in (KEPT, *KEPT.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        KEPT.mkdir(parents=True, exist_ok=True)
        return KEPT
    folder = Path(tempfile.gettempdir()) / f"irisflow-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder


def _processor() -> str:
    """Return what tells processors apart that cannot run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {line.partition(":")[0].strip(): line for line in reversed(lines)}
    return "\n".join(told.get(key, "") for key in ("model name", "flags", "Features"))


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
