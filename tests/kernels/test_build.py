"""Kernels are compiled once for a machine, and done without where they cannot be compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from irisflow import source
from irisflow.errors import ConfigError
from irisflow.kernels import build

SAY = """
import sys
from pathlib import Path
from irisflow.kernels import build
build.KEPT, build.SOURCES = Path(sys.argv[1], "kept"), Path(sys.argv[1], "sources")
print(build.library() is not None, build.kernels().missing)
"""


@pytest.fixture(autouse=True)
def sources(tmp_path: Path) -> Path:
    """A kernel that takes no time to compile."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "kernel.cpp").write_text('extern "C" long one() { return 1; }')
    return folder


def said(tmp_path: Path, **environment: str) -> str:
    """Return whether a new process has kernels, and why it has none."""
    command = [sys.executable, "-c", SAY, str(tmp_path)]
    own = {**os.environ, **environment}
    return subprocess.run(command, check=True, env=own, capture_output=True, text=True).stdout.strip()


def compiled(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "kept").glob("*"))


def test_they_are_compiled_once(tmp_path: Path) -> None:
    assert said(tmp_path) == "True None"
    (file,) = compiled(tmp_path)
    before = file.stat()
    assert said(tmp_path) == "True None"
    assert compiled(tmp_path) == [file] and file.stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    assert said(tmp_path) == "True None"
    (file,) = compiled(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert said(tmp_path) == "True None"
    assert compiled(tmp_path) == [file] and file.read_bytes() == whole


def test_another_source_compiler_flag_or_processor_has_a_file_of_its_own(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "KEPT", tmp_path / "kept")
    kernel, other = sources / "kernel.cpp", sources / "other.cpp"
    other.write_text("int two;")
    flags = ["-fPIC", "-shared"]
    files = {build._file(["c++", *flags], "1.0", [kernel]), build._file(["c++", *flags], "1.0", [other])}
    files.add(build._file(["c++", *flags], "1.1", [kernel]))
    files.add(build._file(["c++", *flags, "-O1"], "1.0", [kernel]))
    monkeypatch.setattr(build, "_processor", lambda: "another")
    files.add(build._file(["c++", *flags], "1.0", [kernel]))
    assert len(files) == 5


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"IRISFLOW_KERNELS": "off"}, "False IRISFLOW_KERNELS=off"),
        ({"PATH": "", "CXX": ""}, "False no C++ compiler (looked for g++, c++ and CXX)"),
        (
            {"CXX": "no-such-compiler"},
            "False no-such-compiler: [Errno 2] No such file or directory: 'no-such-compiler'",
        ),
        ({"CXX": "false"}, "False false cannot compile the kernels: exit code 1"),
    ],
)
def test_why_there_are_none_is_one_line(tmp_path: Path, environment: dict[str, str], reason: str) -> None:
    assert said(tmp_path, **environment) == reason
    assert not compiled(tmp_path)


def test_what_a_compiler_says_is_told(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] || { echo "x.cpp:1: error: no such flag" >&2; exit 1; }\n'
    )
    compiler.chmod(0o755)
    assert (
        said(tmp_path, CXX=str(compiler))
        == f"False {compiler} cannot compile the kernels: x.cpp:1: error: no such flag"
    )


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRISFLOW_KERNELS", "of")
    build.compiled.cache_clear()
    with pytest.raises(ConfigError, match=r"IRISFLOW_KERNELS \(environment\) is 'of'; allowed: on, off\."):
        build.compiled((build.SOURCES / "kernel.cpp",))


def test_clang_is_not_used(tmp_path: Path) -> None:
    """Two pools of threads, each waiting in a loop, slow each other down."""
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho Debian clang version 14.0.6\n")
    compiler.chmod(0o755)
    expected = f"False {compiler} is clang, whose OpenMP is not torch's: g++ is wanted"
    assert said(tmp_path, CXX=str(compiler)) == expected


def test_a_clone_that_cannot_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.os, "access", lambda *_: False)
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = build._folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(build.os, "getuid", lambda: -1)
    folder.rename(tmp_path / "irisflow-kernels--1")
    with pytest.raises(PermissionError, match="is another user's"):
        build._folder()


def test_a_stages_code_has_the_kernels_it_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "irisflow"
    package.mkdir()
    monkeypatch.setattr(source, "PACKAGE", package)
    (package / "kernel.py").write_text("")
    (package / "kernel.cpp").write_text("int one;")
    source._sha256.cache_clear(), source._path.cache_clear()
    first = source._sha256("irisflow.kernel")
    (package / "kernel.cpp").write_text("int two;")
    source._sha256.cache_clear()
    second = source._sha256("irisflow.kernel")
    source._sha256.cache_clear(), source._path.cache_clear()
    assert first != second
