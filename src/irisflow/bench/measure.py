"""One phase, measured: what it does, how long each way of it takes, where it stands under the roof."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from irisflow.bench.counting import Counted, PeakMemory, count
from irisflow.bench.phases import Phase
from irisflow.bench.roofline import Peaks, Work, placed
from irisflow.bench.timing import Effort, Spread, by_turns, seconds_of

Row = dict[str, Any]


def measured(
    name: str, phase: Phase, *, pace: Callable[[], Peaks], effort: Effort, device: torch.device
) -> Row:
    """Return the row of a phase in a result file. Each way is run once or twice beforehand, to be counted and warm.

    `pace` measures the machine's peaks: they count as they are right before and after.
    """
    ways = [phase.fast] if phase.plain is None else [phase.fast, phase.plain]
    counted = [count(way, device, known=phase.known) for way in [phase.counted or phase.fast, *ways[1:]]]
    if phase.counted is not None:
        counted[0] = replace(counted[0], peak_bytes=_peak(phase.fast, device))
    for way in ways if seconds_of(phase.fast, device) < effort.budget_s / effort.least else []:
        way()  # counting may have kept a compiled program from being used
    before = pace()
    seconds = by_turns(ways, effort=effort, device=device, before=phase.before)
    peaks = before.averaged(pace())
    fast = _way(phase, counted[0], seconds[0], peaks, num_bytes=phase.num_bytes + 2 * counted[0].kept_bytes)
    row = {"phase": name, "unit": phase.unit, "units": phase.num_units, "sizes": phase.sizes, "fast": fast}
    if phase.plain is None:
        return {**row, "plain": None, "ratio": None}
    pairs = [slow / quick for quick, slow in zip(*seconds, strict=True)]
    plain = _way(phase, counted[1], seconds[1], peaks, num_bytes=None)
    return {**row, "plain": plain, "ratio": Spread.of(pairs).as_dict()}


def _peak(work: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that the work needs."""
    with PeakMemory(device) as memory:
        work()
    return memory.peak_bytes


def _way(phase: Phase, counted: Counted, seconds: list[float], peaks: Peaks, *, num_bytes: int | None) -> Row:
    """Return the numbers of one way; only the fast one, whose bytes are known, is placed under the roof."""
    spread = Spread.of(seconds)
    row = {
        "seconds": spread.as_dict(),
        "units_per_s": phase.num_units / spread.median,
        "flops": counted.convolution_flops + counted.matmul_flops,
        "convolution_flops": counted.convolution_flops,
        "matmul_flops": counted.matmul_flops,
        "operators": counted.num_operators,
        "peak_memory_bytes": counted.peak_bytes,
    }
    if num_bytes is None:
        return row
    work = Work(counted.convolution_flops, counted.matmul_flops, num_bytes, phase.pass_bytes)
    place = placed(work, peaks, spread.median)
    return {
        **row,
        "bytes": num_bytes,
        "flops_per_byte": work.intensity,
        "roofline": {
            "fraction": place.fraction,
            "bound": place.bound,
            "roof_s": place.roof_s,
            "arithmetic_s": place.arithmetic_s,
            "memory_s": place.memory_s,
            "matmul_gflops_per_s": peaks.matmul / 1e9,
            "convolution_gflops_per_s": peaks.convolution / 1e9,
            "copy_gb_per_s": peaks.copy / 1e9,
        },
    }
