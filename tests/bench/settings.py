"""A small workload on real play: made once, each test reads it."""

from functools import cache

from irisflow.bench.workload import Request, Workload

NUM_FRAMES = 120


@cache
def workload() -> Workload:
    """Return a trainer at scale smoke on random play of Breakout."""
    return Workload(Request("smoke", "iris", "cpu", 1, NUM_FRAMES))
