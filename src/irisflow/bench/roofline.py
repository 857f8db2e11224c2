"""The roofline: how near a phase comes to what this machine can do, and what holds it back (Williams et al. 2009)."""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["arithmetic", "memory", "overhead"]
NEAR = 0.4  # a phase that reaches less of its roofline than this is bound by neither arithmetic nor memory


@dataclass(frozen=True)
class Peaks:
    """What this machine reaches in this process: FLOP/s of a matrix product and of a convolution, bytes/s of a copy."""

    matmul: float
    convolution: float
    copy: float


@dataclass(frozen=True)
class Work:
    """What a phase must do at least: arithmetic of both kinds, and bytes that pass between memory and processor."""

    convolution_flops: int = 0
    matmul_flops: int = 0
    num_bytes: int = 0

    @property
    def flops(self) -> int:
        """Arithmetic of both kinds."""
        return self.convolution_flops + self.matmul_flops

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte; None where no bytes are counted."""
        return self.flops / self.num_bytes if self.num_bytes else None


@dataclass(frozen=True)
class Placement:
    """Where a measured phase stands under the roof: seconds that the machine would need at least, by resource."""

    arithmetic_s: float
    memory_s: float
    fraction: float
    bound: Bound


def placed(work: Work, peaks: Peaks, seconds: float) -> Placement:
    """Return where work that took `seconds` stands.

    Each kind of arithmetic is divided by its own peak. The roof is the larger of arithmetic and memory time; the fraction
    of it that was reached may exceed 1 where data stayed in a cache.
    """
    arithmetic = work.convolution_flops / peaks.convolution + work.matmul_flops / peaks.matmul
    memory = work.num_bytes / peaks.copy
    fraction = max(arithmetic, memory) / seconds
    nearest: Bound = "arithmetic" if arithmetic >= memory else "memory"
    return Placement(arithmetic, memory, fraction, nearest if fraction >= NEAR else "overhead")


def roof(intensity: float, peaks: Peaks) -> float:
    """Return the most FLOP/s that a matrix product of this intensity could reach."""
    return min(peaks.matmul, peaks.copy * intensity)
