"""Checks the shape annotations of the models while the tests run; makes workspaces that tests share."""

import copy
import os
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from omegaconf import DictConfig
from xdist.scheduler import LoadFileScheduling

import workspace
from irisflow import params

# CI draws the same examples each time, so that only a change can break it; people's runs go on searching.
settings.register_profile("irisflow", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("irisflow")
install_import_hook(["irisflow.tokenizer", "irisflow.world_model", "irisflow.behaviour"], "beartype.beartype")

# Tests start hundreds of processes, each of which would compile our code anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a worker is a core's: a second thread would only take the other one


def _remembering(compose: Callable[[list[str]], DictConfig]) -> Callable[[list[str]], DictConfig]:
    """Return a function that composes the same configuration once: that takes .3 s, and tests ask for 500."""
    kept: dict[tuple[object, ...], DictConfig] = {}

    def settings_from(overrides: list[str]) -> DictConfig:
        key = (params.PARAMS, *overrides)
        if key not in kept:
            kept[key] = compose(overrides)
        return copy.deepcopy(kept[key])

    return settings_from


params.settings_from = _remembering(params.settings_from)


def pytest_configure(config: pytest.Config) -> None:
    """OmegaConf's DictConfig derives from an alias that beartype calls deprecated."""
    name = "beartype.roar.BeartypeDecorHintPep585DeprecationWarning"
    config.addinivalue_line("filterwarnings", f"ignore::{name}")


LONGEST = (
    "tests/workflow/test_every_study.py", "tests/docs/test_adding_a_variant.py",
)  # fmt: skip


class ByFile(LoadFileScheduling):
    """Gives a file's tests to one worker, and all files that stand on the smoke study: so each fixture is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "the smoke study" if file in _files_on_the_smoke_study() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Return how tests are dealt to workers."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take minutes first: at the end, one worker would wait for the other."""
    items.sort(key=lambda item: _place(item.nodeid.split("::")[0]))


def _place(file: str) -> int:
    if file in LONGEST:
        return LONGEST.index(file)
    is_long = file in _files_on_the_smoke_study() or file.startswith(("tests/workflow/", "tests/by_hand/"))
    return len(LONGEST) if is_long else len(LONGEST) + 1


@cache
def _files_on_the_smoke_study() -> set[str]:
    root = Path(__file__).parents[1]
    fixtures = re.compile(r"\b(smoke_run|finished): Path")
    return {
        str(path.relative_to(root))
        for path in (root / "tests").rglob("test_*.py")
        if fixtures.search(path.read_text(encoding="utf-8"))
    }


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which nothing has run yet. Tests leave it as it is."""
    return workspace.copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the study `smoke` has run. Tests only read it, or copy it."""
    folder = workspace.copy_checkout(tmp_path_factory.mktemp("smoke"))
    start = time.monotonic()
    workspace.snakemake(folder, workspace.REPORT, "--cores", "2", check=True)
    print(f"the study smoke took {time.monotonic() - start:.0f} s")
    return folder


@pytest.fixture
def finished(smoke_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke study, to change."""
    return workspace.copy_workspace(smoke_run, tmp_path / "finished")
