"""The roofline: how near a phase comes to what this machine can do, and what holds it back (Williams et al. 2009)."""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["arithmetic", "memory", "both", "overhead"]
NEAR = 0.4  # a phase that reaches less of its roofline than this is bound by neither arithmetic nor memory
LEAST_SHARE = 0.1  # of a phase's least time; a stage with less does not tell what binds the phase


@dataclass(frozen=True)
class Peaks:
    """What this machine reaches in this process: FLOP/s of a matrix product and of a convolution, bytes/s of a copy."""

    matmul: float
    convolution: float
    copy: float

    def averaged(self, other: "Peaks") -> "Peaks":
        """Return the means of two."""
        return Peaks(
            (self.matmul + other.matmul) / 2,
            (self.convolution + other.convolution) / 2,
            (self.copy + other.copy) / 2,
        )


@dataclass(frozen=True)
class Work:
    """What a phase must do at least: arithmetic of both kinds, and bytes that pass between memory and processor.

    Of these, `pass_bytes` are a stage of its own: passes of a few rows, one after the other, that hold the matrix products.
    """

    convolution_flops: int = 0
    matmul_flops: int = 0
    num_bytes: int = 0
    pass_bytes: int = 0

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
    """Where a measured phase stands under the roof: seconds that the machine would need at least, in all and by resource."""

    roof_s: float
    arithmetic_s: float
    memory_s: float
    fraction: float
    bound: Bound


def placed(work: Work, peaks: Peaks, seconds: float) -> Placement:
    """Return where work that took `seconds` stands.

    Each kind of arithmetic is divided by its own peak. The roof of a stage is the larger of arithmetic and memory time, that
    of a phase their sum; the fraction of it that was reached may exceed 1 where data stayed in a cache.
    """
    stages = _stages(work, peaks)
    least = sum(map(max, stages))
    arithmetic, memory = (sum(times) for times in zip(*stages, strict=True))
    bounds = {_bound(*stage) for stage in stages if max(stage) >= LEAST_SHARE * least}
    bound: Bound = "both" if len(bounds) > 1 else bounds.pop()
    fraction = least / seconds
    return Placement(least, arithmetic, memory, fraction, bound if fraction >= NEAR else "overhead")


def _stages(work: Work, peaks: Peaks) -> list[tuple[float, float]]:
    """Return the seconds of arithmetic and of memory of what comes one after the other."""
    convolutions, products = work.convolution_flops / peaks.convolution, work.matmul_flops / peaks.matmul
    if not work.pass_bytes:
        return [(convolutions + products, work.num_bytes / peaks.copy)]
    others = work.num_bytes - work.pass_bytes
    return [(convolutions, others / peaks.copy), (products, work.pass_bytes / peaks.copy)]


def _bound(arithmetic_s: float, memory_s: float) -> Bound:
    return "arithmetic" if arithmetic_s >= memory_s else "memory"


def roof(intensity: float, peaks: Peaks) -> float:
    """Return the most FLOP/s that a matrix product of this intensity could reach."""
    return min(peaks.matmul, peaks.copy * intensity)
