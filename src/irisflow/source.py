"""The digest of a stage's code: all modules of this package that it imports, however far down, unused ones not.

C++ files count with every module that lies beside them. Snakemake does not see changes of Python modules that a `shell:`
rule runs. Only files are read, nothing is imported.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def digest(*modules: str) -> str:
    """Return the sha256 over the source of the named modules and of all they import from this package."""
    found: set[str] = set()
    for module in modules:
        _follow(module, found)
    text = "".join(f"{module}:{_sha256(module)}\n" for module in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def _follow(module: str, found: set[str]) -> None:
    if module in found or _path(module) is None:
        return
    found.add(module)
    for imported in _imports(module):
        _follow(imported, found)


@cache
def _path(module: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if module.startswith("irisflow") and path.is_file():
            return path
    return None


@cache
def _sha256(module: str) -> str:
    path = _path(module)
    assert path is not None
    files = [path, *sorted(path.parent.glob("*.[ch]pp"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def _imports(module: str) -> tuple[str, ...]:
    path = _path(module)
    assert path is not None
    return tuple(_imported(ast.parse(path.read_text(encoding="utf-8"))))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
