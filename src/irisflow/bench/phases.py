"""What a phase of training is for the benchmark."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor

from irisflow.bench.timing import Work
from irisflow.bench.workload import Workload


@dataclass(frozen=True)
class Phase:
    """A piece of work in units of something, done the fast way and, where there is one, the plain way.

    Where the fast way replays a recording, in which no operator can be seen, `counted` does the same without one.
    `num_bytes` is a lower bound of what it moves beside what autograd keeps, `pass_bytes` what of it passes of the world
    model move, one after the other; `known` are tensors that a backward pass keeps but that are in `num_bytes` already.
    """

    fast: Work
    unit: str
    num_units: int
    plain: Work | None = None
    counted: Work | None = None
    num_bytes: int = 0
    pass_bytes: int = 0
    known: Sequence[Tensor] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    before: Work | None = None


Maker = Callable[[Workload], AbstractContextManager[Phase]]
