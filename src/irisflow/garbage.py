"""Python's search for garbage in cycles, put to rest while millions of objects are made that are in no cycle."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Let no cycles be looked for in the block; also decorates a function. What is in none is freed as ever.

    Records of a large study are small objects that all live to the end: looking through them again and again takes a tenth
    of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
