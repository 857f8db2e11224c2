"""`irisflow bench`: measures, prints a table, writes JSON and a picture, checks bounds; or compares two results."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from irisflow import provenance
from irisflow.bench import bounds, figure, projection, result, table
from irisflow.bench.measure import Row, measured
from irisflow.bench.peaks import MachinePeaks, measure_pace, measure_peaks
from irisflow.bench.play_phases import num_cores
from irisflow.bench.registry import PHASES, chosen
from irisflow.bench.timing import HASTY, THOROUGH, Effort
from irisflow.bench.workload import Request, Workload
from irisflow.checkout import git_state
from irisflow.errors import ConfigError
from irisflow.progress import progress, say
from irisflow.training.device import choose_device

NUM_FRAMES = {
    "cpu": 640,
    "cuda": 20_000,
}  # of real play in the trainer's buffer: each is encoded before phases that read tokens
PROJECTED_ON_CPU = ("full",)  # scales whose epoch takes hours there


def run(options: argparse.Namespace) -> None:
    """Do what the command line asks. Raises ConfigError for a wrong argument, SlowdownError where `--check` fails."""
    names = chosen(options.phases or (list(bounds.BOUNDS) if options.check else []))
    if options.figure is not None:
        figure.check_name(options.figure)
    num_threads = num_cores() if options.threads is None else options.threads
    if num_threads < 1:
        raise ConfigError(f"--threads is {num_threads}; allowed: 1 or more.")
    device = choose_device(options.device, num_threads=num_threads)
    request = Request(
        options.scale,
        options.variant,
        str(device),
        num_threads,
        NUM_FRAMES[device.type],
        tuple(options.override),
    )
    measured_result = measure(request, names, effort=HASTY if options.quick else THOROUGH)
    sys.stdout.write(table.results_text(measured_result) + "\n")
    if options.output is not None:
        result.write(measured_result, options.output)
    if options.figure is not None:
        figure.write_figure(measured_result, options.figure)
    if options.check:
        bounds.check(measured_result["phases"])


def measure(request: Request, names: Sequence[str], *, effort: Effort) -> dict[str, Any]:
    """Return the result of measuring these phases: what `--output` writes."""
    settings = request.settings()  # a wrong name stops here, before anything is measured
    device = choose_device(request.device, num_threads=request.num_threads)
    say("bench: measuring this machine's peaks")
    peaks = measure_peaks(device)
    workload = Workload(request)
    channels = settings.tokenizer.encoder.config.ch
    is_projected = device.type == "cpu" and request.scale in PROJECTED_ON_CPU
    rows: list[Row] = []
    try:
        for name in progress(names, what="bench", unit="phase"):
            if name == "epoch" and is_projected:
                continue
            with PHASES[name](workload) as phase:
                pace = partial(measure_pace, device, channels)
                rows.append(measured(name, phase, pace=pace, effort=effort, device=device))
    finally:
        workload.close()
    is_full = request.scale == "full"
    return {
        **_about(request, peaks, device, channels),
        "phases": rows,
        "projected_epoch_s": projection.epoch_seconds(rows, settings) if is_projected else None,
        "projected_atari_100k": projection.atari_100k(rows) if is_full else None,
    }


def _about(request: Request, peaks: MachinePeaks, device: torch.device, channels: int) -> dict[str, Any]:
    """Return what a result says of its circumstances."""
    used = peaks.at_width(channels).convolution / 1e9
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    git = git_state()
    return {
        "kind": result.KIND,
        "schema": result.SCHEMA,
        "scale": request.scale,
        "variant": request.variant,
        "overrides": list(request.overrides),
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": provenance.hardware(),
        **{key: git[key] for key in ("commit", "dirty", "diff_sha256")},
        "peaks": {**peaks.as_dict(), "convolution_used_gflops_per_s": used},
    }
