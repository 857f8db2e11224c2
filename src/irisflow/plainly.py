"""A switch: what has a fast way of its own on a CPU is computed as torch does it, to be held and timed against."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_plain: ContextVar[bool] = ContextVar("_is_plain", default=False)


@contextmanager
def as_torch_does() -> Iterator[None]:
    """Let every Linear and every Dropout compute as those of torch.nn do. Also decorates a function."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def is_plain() -> bool:
    """Return whether `as_torch_does` holds."""
    return _is_plain.get()
