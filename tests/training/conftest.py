"""Folders in memory, where a sync costs nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

RAM = Path("/dev/shm")


@pytest.fixture
def in_ram() -> Iterator[Path]:
    """An empty folder, in memory where the system offers that."""
    folder = Path(tempfile.mkdtemp(prefix="irisflow-", dir=RAM if RAM.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
