"""Checks the shape annotations of the models while the tests run; makes workspaces that tests share."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import workspace

# CI draws the same examples each time, so that only a change can break it; people's runs go on searching.
settings.register_profile("irisflow", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("irisflow")
install_import_hook(["irisflow.tokenizer", "irisflow.world_model", "irisflow.behaviour"], "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """OmegaConf's DictConfig derives from an alias that beartype calls deprecated."""
    name = "beartype.roar.BeartypeDecorHintPep585DeprecationWarning"
    config.addinivalue_line("filterwarnings", f"ignore::{name}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests that stand on the smoke study to one worker, so that it runs once."""
    for item in items:
        if "smoke_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("smoke study"))


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
