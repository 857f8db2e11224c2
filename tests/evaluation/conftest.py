"""Models that several files measure are trained once."""

import pytest
from tiny_catch import TinyCatch, make_tiny_catch


@pytest.fixture(scope="session")
def tiny() -> TinyCatch:
    return make_tiny_catch()
