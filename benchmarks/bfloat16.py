"""What `common.precision=bfloat16` changes: the losses of 200 updates of each part beside those in float32, and the time.

    python benchmarks/bfloat16.py --scale quick      # into benchmarks/results/bfloat16/

Four runs start from the same weights and draw the same batches of Breakout at random play: float32, bfloat16, and each of
them again with another seed of everything that is drawn. The difference between seeds says how much the other one matters.
The tokenizer trains first, then the world model over its tokens, then the actor-critic in the imagined game.
"""

import argparse
import csv
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter

from irisflow import provenance
from irisflow.bench.workload import Request, Workload
from irisflow.progress import progress, say
from irisflow.reporting.style import COLOURS, RC
from irisflow.training.device import keep_freed_memory

FOLDER = Path(__file__).parent / "results/bfloat16"
PARTS = ("tokenizer", "world_model", "actor_critic")
RUNS = (("float32", 0), ("bfloat16", 0), ("float32", 1), ("bfloat16", 1))
LAST = 50  # updates whose mean is compared
NUM_FRAMES = 640


@dataclass(frozen=True)
class Update:
    """The loss of one update and what it took."""

    precision: str
    seed: int
    part: str
    number: int
    loss: float
    seconds: float


def main() -> int:
    """Measure, write, draw, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keep_freed_memory()
    rows: list[Update] = []
    for precision, seed in RUNS:
        rows += trained(options, precision, seed)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{options.scale}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(
            {**asdict(row), "loss": f"{row.loss:.6g}", "seconds": f"{row.seconds:.4f}"} for row in rows
        )
    draw(rows, options)
    sys.stdout.write(table(rows) + "\n")
    return 0


def trained(options: argparse.Namespace, precision: str, seed: int) -> list[Update]:
    """Return the updates of one run."""
    overrides = (f"common.precision={precision}", f"common.seed={seed}")
    request = Request(options.scale, "iris", options.device, options.threads, NUM_FRAMES, overrides)
    workload = Workload(request)
    rows = []
    try:
        for part in PARTS:
            component = workload.trainer.components[part]
            component.module.train()
            for number in progress(
                range(options.updates), what=f"{precision}, seed {seed}, {part}", unit="update"
            ):
                start = time.perf_counter()
                loss = float(component.update()["total"])
                rows.append(Update(precision, seed, part, number, loss, time.perf_counter() - start))
            component.module.eval()
    finally:
        workload.close()
    say(f"{precision}, seed {seed}: done")
    return rows


def table(rows: list[Update]) -> str:
    """Return the means of the last updates and the medians of the times, as a Markdown table."""
    lines = [
        f"| part | float32, last {LAST}: seeds 0, 1 | bfloat16: seeds 0, 1 | difference | between seeds"
        " | time, bfloat16 / float32 |",
        "|---|---|---|---|---|---|",
    ]
    for part in PARTS:
        full, half = (
            [mean_loss(rows, part, precision, seed) for seed in (0, 1)]
            for precision in ("float32", "bfloat16")
        )
        ratio = seconds(rows, part, "bfloat16") / seconds(rows, part, "float32")
        differences = [100 * (there - here) / abs(here) for here, there in zip(full, half, strict=True)]
        spread = 100 * (full[1] - full[0]) / abs(full[0])
        lines.append(
            f"| {part} | {full[0]:.4f}, {full[1]:.4f} | {half[0]:.4f}, {half[1]:.4f} | {differences[0]:+.1f} %,"
            f" {differences[1]:+.1f} % | {spread:+.1f} % | {ratio:.2f} |"
        )
    return "\n".join(lines)


def mean_loss(rows: list[Update], part: str, precision: str, seed: int) -> float:
    """Return the mean loss of a run's last updates of a part."""
    return float(np.mean(losses(rows, part, precision, seed)[-LAST:]))


def losses(rows: list[Update], part: str, precision: str, seed: int) -> list[float]:
    """Return the losses of a run's updates of a part."""
    return [row.loss for row in rows if (row.part, row.precision, row.seed) == (part, precision, seed)]


def seconds(rows: list[Update], part: str, precision: str) -> float:
    """Return the median time of an update of a part."""
    return float(np.median([row.seconds for row in rows if (row.part, row.precision) == (part, precision)]))


def draw(rows: list[Update], options: argparse.Namespace) -> None:
    """Draw the losses of each part: float32 and bfloat16, two seeds."""
    with mpl.rc_context(RC):
        figure, axes = plt.subplots(1, len(PARTS), figsize=(11, 3.4), layout="constrained")
        for axis, part in zip(axes, PARTS, strict=True):
            for precision, seed in RUNS:
                colour = COLOURS[("float32", "bfloat16").index(precision)]
                dashes = "-" if seed == 0 else ":"
                values = losses(rows, part, precision, seed)
                axis.plot(values, dashes, color=colour, linewidth=1, label=f"{precision}, seed {seed}")
            axis.set(title=part.replace("_", " "), xlabel="update", ylabel="loss")
        for axis in axes[:2]:
            axis.set_yscale("log")
            for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                ticks(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[0].legend(fontsize=7)
        about = f"scale {options.scale}, {options.updates} updates, {provenance.hardware()['processor']}"
        figure.suptitle(f"bfloat16 beside float32, {about}", fontsize=9)
        figure.savefig(FOLDER / f"{options.scale}.png", dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
