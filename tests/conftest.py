"""Checks the shape annotations of the models while the tests run."""

import pytest
from jaxtyping import install_import_hook

install_import_hook(["irisflow.tokenizer", "irisflow.world_model", "irisflow.behaviour"], "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """OmegaConf's DictConfig derives from an alias that beartype calls deprecated."""
    name = "beartype.roar.BeartypeDecorHintPep585DeprecationWarning"
    config.addinivalue_line("filterwarnings", f"ignore::{name}")
