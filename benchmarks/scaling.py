"""How cost and memory grow: with position, horizon, batch, tokens of a frame, and size of the replay buffer.

    python benchmarks/scaling.py                     # all axes, into benchmarks/results/scaling/
    python benchmarks/scaling.py --only position     # one of them

`position` steps one token at full size (10 layers, 256 wide; batch 8) after so many tokens, for each backbone that has no
sizes of its own. The others imagine at scale `quick`, and draw from replay buffers of IRIS's frames. Every point is made in
a process of its own; memory is what its resident set grew by at the most.
"""

import argparse
import csv
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import LogLocator
from torch import Tensor

from irisflow import params, provenance
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine
from irisflow.bench.timing import HASTY, Spread, by_turns
from irisflow.data.replay import ReplayBuffer
from irisflow.progress import progress
from irisflow.records import Batch, Episode
from irisflow.reporting.style import COLOURS, MARKERS, RC
from irisflow.training.device import keep_freed_memory

FOLDER = Path(__file__).parent / "results/scaling"
BACKBONES = (
    "iris",
    "backbone_llama",
    "backbone_transformer_xl",
    "backbone_gru",
    "backbone_retnet",
    "backbone_mamba",
)
PREDICTIONS = ("prediction_parallel", "prediction_parallel_retnet", "prediction_masked")
POSITIONS = (17, 85, 170, 340, 680, 1019)
HORIZONS = (5, 10, 20, 40)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = ("iris", "quantizer_residual_vq", "tokens_64")  # 16, 32 and 64 tokens a frame
REPLAY_STEPS = (1_000, 10_000, 100_000)
NUM_ACTIONS = 4
UNITS = {
    "position": "ms a token step",
    "horizon": "ms an imagined frame",
    "batch": "ms an imagined frame",
    "tokens": "ms an imagined frame",
    "replay": "ms a draw",
}
LABELS = {
    "position": "tokens before it",
    "horizon": "imagined steps",
    "batch": "rollouts at once",
    "tokens": "tokens of a frame",
    "replay": "steps in the replay buffer",
}


@dataclass(frozen=True)
class Point:
    """One measurement: median, least and most milliseconds, and mebibytes."""

    axis: str
    what: str
    x: int
    ms: float
    least_ms: float
    most_ms: float
    num_runs: int
    memory_mib: float


Prepare = Callable[[], tuple[Callable[[], object], int]]  # makes the work, and says how many units it does


def main() -> int:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(UNITS), help="these axes only")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    planned = [plan for axis in options.only or UNITS for plan in plans(axis)]
    points = []
    for axis, what, x, prepare in progress(planned, what="scaling", unit="point"):
        points.append(measured(axis, what, x, prepare, num_threads=options.threads))
    write(points)
    for axis in dict.fromkeys(point.axis for point in points):
        draw([point for point in points if point.axis == axis], num_threads=options.threads)
    sys.stdout.write(f"{FOLDER}: {len(points)} points\n")
    return 0


def plans(axis: str) -> Iterator[tuple[str, str, int, Prepare]]:
    """Yield axis, curve, place on the axis, and what prepares the work, of every point."""
    if axis == "position":
        for variant in BACKBONES:
            yield from ((axis, variant, x, partial(token_step, variant, x)) for x in POSITIONS)
    if axis == "horizon":
        for variant in (*BACKBONES, *PREDICTIONS):
            yield from ((axis, variant, x, partial(imagination, variant, horizon=x)) for x in HORIZONS)
    if axis == "batch":
        yield from ((axis, "iris", x, partial(imagination, "iris", batch_size=x)) for x in BATCHES)
    if axis == "tokens":
        for variant in TOKENS:
            yield axis, "iris, other tokenizers", tokens_per_frame(variant), partial(imagination, variant)
    if axis == "replay":
        for what in ("64 x 20 tokens' steps", "256 frames"):
            yield from ((axis, what, x, partial(draws, what, x)) for x in REPLAY_STEPS)


def measured(axis: str, what: str, x: int, prepare: Prepare, *, num_threads: int) -> Point:
    """Return one point, measured in a process of its own."""
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process whose threads have computed waits for them for ever
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(prepare, num_threads, sending))
    child.start()
    sending.close()  # the child's end alone is left: if it dies, so does waiting for it
    seconds, num_units, memory = receiving.recv()
    child.join()
    spread = Spread.of(seconds).scaled(1000 / num_units)
    return Point(axis, what, x, spread.median, spread.min, spread.max, spread.num_runs, memory / 2**20)


def _measure(prepare: Prepare, num_threads: int, sending: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    before = _resident("VmRSS")
    work, num_units = prepare()
    work()
    (seconds,) = by_turns([work], effort=HASTY, device=torch.device("cpu"))
    sending.send((seconds, num_units, max(0, _resident("VmHWM") - before)))


def _resident(field: str) -> int:
    """Return a figure of this process's resident memory in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def agent_of(variant: str, *overrides: str, scale: str = "quick") -> Agent:
    """Return an untrained agent of Breakout in eval mode."""
    settings = params.settings_from(
        [f"scale={scale}", f"variant={variant}", "scale.reconstruction.lpips=0.0", *overrides]
    )
    torch.manual_seed(0)
    return build_agent(settings, num_actions=NUM_ACTIONS).eval()


def tokens_per_frame(variant: str) -> int:
    """Return how many tokens a variant's frames have at scale `quick`."""
    return agent_of(variant).tokenizer.tokens_per_frame


def token_step(variant: str, position: int) -> tuple[Callable[[], object], int]:
    """Return one token's pass through a backbone that has seen so many."""
    backbone = agent_of(variant, "world_model.max_blocks=60", scale="full").world_model.backbone
    with torch.no_grad():
        _, memory = backbone(torch.randn(8, position, backbone.embed_dim))
    token = torch.randn(8, 1, backbone.embed_dim)

    @torch.no_grad()
    def step() -> Tensor:
        return backbone(token, memory)[0]

    return step, 1


def imagination(variant: str, *, horizon: int = 10, batch_size: int = 32) -> tuple[Callable[[], object], int]:
    """Return a rollout from one frame."""
    agent = agent_of(variant, f"world_model.max_blocks={max(HORIZONS) + 1}")
    tokens = torch.randint(agent.tokenizer.vocab_size, (batch_size, 1, agent.tokenizer.tokens_per_frame))
    zeros = torch.zeros(batch_size, 1)
    batch = Batch(None, zeros.long(), zeros, zeros.bool(), zeros == 0).with_tokens(tokens)
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def work() -> object:
        return imagine(agent, batch, horizon=horizon, generator=generator)

    return work, batch_size * horizon


def draws(what: str, num_steps: int) -> tuple[Callable[[], object], int]:
    """Return a draw from a replay buffer of random frames, in episodes of 200 steps."""
    replay, rng = ReplayBuffer(num_steps), np.random.default_rng(0)
    is_last = np.arange(200) == 199
    frames = rng.integers(0, 256, (200, 3, 64, 64), dtype=np.uint8)
    for _ in range(num_steps // 200):
        replay.append(
            Episode(frames, np.zeros(200, np.int64), np.zeros(200, np.float32), is_last, is_last & False)
        )
    if what == "256 frames":
        return partial(replay.sample, 256, 1, anchor="end", rng=rng), 1
    return partial(replay.sample, 64, 20, anchor="start", rng=rng, has_observations=False), 1


def write(points: Sequence[Point]) -> None:
    """Write the points as CSV, beside those of axes that were not measured now."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for axis in dict.fromkeys(point.axis for point in points):
        with (FOLDER / f"{axis}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([f.name for f in fields(Point)])
            writer.writerows(asdict(point).values() for point in points if point.axis == axis)


def draw(points: Sequence[Point], *, num_threads: int) -> None:
    """Draw cost and memory against one axis."""
    axis, machine = points[0].axis, provenance.hardware()
    with mpl.rc_context(RC):
        figure, (cost, memory) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
        for index, what in enumerate(dict.fromkeys(point.what for point in points)):
            curve = [point for point in points if point.what == what]
            look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            x, ms = [point.x for point in curve], [point.ms for point in curve]
            spread = [[p.ms - p.least_ms for p in curve], [p.most_ms - p.ms for p in curve]]
            cost.errorbar(x, ms, yerr=spread, label=what, capsize=1.5, **look)
            memory.plot(x, [point.memory_mib for point in curve], **look)
        for panel, unit in ((cost, UNITS[axis]), (memory, "MiB of memory")):
            panel.set(xlabel=LABELS[axis], ylabel=unit, xscale="log", yscale="log")
            panel.set_xticks(sorted({p.x for p in points}), [f"{x:,}" for x in sorted({p.x for p in points})])
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
        figure.suptitle(
            f"{machine['processor']}, {num_threads} threads, torch {torch.__version__}", fontsize=7
        )
        figure.savefig(FOLDER / f"{axis}.svg")
        plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
