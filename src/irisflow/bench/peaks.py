"""What this machine can do in this process, at the thread count in use: measured first, and again beside each phase."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from irisflow.bench.roofline import Peaks
from irisflow.bench.timing import Effort, Work, by_turns
from irisflow.convolution import Conv3x3
from irisflow.kernels.use import has_kernels
from irisflow.linear import Linear

EFFORT, BRIEF = Effort(1.0, 3, 30), Effort(0.1, 2, 10)
MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}  # 8 times the last-level cache of a server processor
WIDTHS = (16, 64)  # channels, those of the scales quick and full
BATCH, SIDE = 16, 64
KERNEL = "channels last, kernel"
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


@dataclass(frozen=True)
class MachinePeaks:
    """FLOP/s of matrix products and of convolutions by width and way, bytes/s of a copy; bfloat16 on a GPU only."""

    matmul: float
    convolutions: dict[int, dict[str, float]]
    copy: float
    matmul_bfloat16: float | None

    def at_width(self, channels: int) -> Peaks:
        """Return the peaks, with the convolution of the width nearest to `channels`."""
        nearest = min(self.convolutions, key=lambda width: abs(width - channels))
        return Peaks(self.matmul, max(self.convolutions[nearest].values()), self.copy)

    def as_dict(self) -> dict[str, Any]:
        """Return them as JSON-able data, in GFLOP/s and GB/s."""
        convolutions = [
            {
                "channels": width,
                "gflops_per_s": max(rates.values()) / 1e9,
                "layout": max(rates, key=lambda way: rates[way]),
                "by_layout": {way: rate / 1e9 for way, rate in rates.items()},
            }
            for width, rates in self.convolutions.items()
        ]
        bfloat16 = None if self.matmul_bfloat16 is None else self.matmul_bfloat16 / 1e9
        return {
            "matmul_gflops_per_s": self.matmul / 1e9,
            "matmul_bfloat16_gflops_per_s": bfloat16,
            "convolution": convolutions,
            "copy_gb_per_s": self.copy / 1e9,
        }


@torch.no_grad()
def measure_peaks(device: torch.device) -> MachinePeaks:
    """Return the best rate of a few runs of each."""
    is_cuda = device.type == "cuda"
    return MachinePeaks(
        max(matmul_rate(torch.float32, device), linear_rate(device)),
        {width: convolution_rates(width, device) for width in WIDTHS},
        copy_rate(device),
        matmul_rate(torch.bfloat16, device) if is_cuda else None,
    )


@torch.no_grad()
def measure_pace(device: torch.device, channels: int) -> Peaks:
    """Return the peaks of this moment, of fewer runs: a shared machine does not keep its pace for minutes."""
    width = min(WIDTHS, key=lambda width: abs(width - channels))
    return Peaks(
        max(matmul_rate(torch.float32, device, effort=BRIEF), linear_rate(device, effort=BRIEF)),
        max(convolution_rates(width, device, effort=BRIEF).values()),
        copy_rate(device, effort=BRIEF),
    )


def matmul_rate(dtype: torch.dtype, device: torch.device, *, effort: Effort = EFFORT) -> float:
    """Return FLOP/s of a large matrix product: 2 n^3 of them."""
    side = MATMUL_SIDE[device.type]
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    out = torch.empty_like(left)
    return 2 * side**3 / _fastest(lambda: torch.mm(left, right, out=out), device, effort)


def linear_rate(device: torch.device, *, effort: Effort = EFFORT) -> float:
    """Return FLOP/s of the same product in `irisflow.linear`, which a CPU computes by oneDNN."""
    side = MATMUL_SIDE[device.type]
    layer, rows = Linear(side, side, bias=False).to(device), torch.randn(side, side, device=device)
    return 2 * side**3 / _fastest(lambda: layer(rows), device, effort)


def convolution_rates(width: int, device: torch.device, *, effort: Effort = EFFORT) -> dict[str, float]:
    """Return FLOP/s of the tokenizer's usual convolution, 3 x 3 on 64 x 64 pixels, by each way of computing it.

    A kernel that makes fewer products than a direct convolution is credited with those of the direct one.
    """
    maps = torch.randn(BATCH, width, SIDE, SIDE, device=device)
    weight = torch.randn(width, width, 3, 3, device=device)
    ways: dict[str, Work] = {
        name: partial(
            F.conv2d, *(each.contiguous(memory_format=layout) for each in (maps, weight)), padding=1
        )
        for name, layout in LAYOUTS.items()
    }
    if has_kernels() and device.type == "cpu":
        own = partial(Conv3x3(width, width), maps.contiguous(memory_format=torch.channels_last))
        ways[KERNEL] = own
    flops = 2 * BATCH * SIDE * SIDE * 9 * width * width
    return {name: flops / _fastest(way, device, effort) for name, way in ways.items()}


def copy_rate(device: torch.device, *, effort: Effort = EFFORT) -> float:
    """Return bytes/s of a copy, those read and those written."""
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device).add_(1)
    target: Tensor = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device, effort)


def _fastest(work: Work, device: torch.device, effort: Effort) -> float:
    """Return the least seconds of a few runs, after one that does not count."""
    work()
    (seconds,) = by_turns([work], effort=effort, device=device)
    return min(seconds)
