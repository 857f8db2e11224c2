"""Results as plain text. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
HEADINGS = (
    "phase", "median", "min to max", "runs", "rate", "GFLOP", "GFLOP/s", "roof", "bound by", "memory", "fast/plain",
)  # fmt: skip


def results_text(result: Mapping[str, Any]) -> str:
    """Return a result for a terminal: machine, peaks, a row for each phase, projections."""
    rows = [HEADINGS, *(_cells(row) for row in result["phases"])]
    parts = [_heading(result), *aligned(rows), *_projections(result)]
    return "\n".join(parts)


def comparison_text(rows: Sequence[tuple[str, float, float]]) -> str:
    """Return the phases of two results side by side; a ratio above 1 says that the second is faster."""
    cells = [
        (phase, time_text(first), time_text(second), f"{first / second:.2f}") for phase, first, second in rows
    ]
    return "\n".join(aligned([("phase", "A", "B", "A/B"), *cells]))


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows with columns of one width: the first to the left, the others to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def time_text(seconds: float) -> str:
    """Return seconds with a unit in which they can be read."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def bytes_text(num: float) -> str:
    """Return bytes in MB or GB."""
    return f"{num / 1e9:.2f} GB" if num >= 1e9 else f"{num / 1e6:.0f} MB"


def _heading(result: Mapping[str, Any]) -> str:
    machine, peaks = result["machine"], result["peaks"]
    convolutions = ", ".join(map(_convolution, peaks["convolution"]))
    bfloat16 = peaks["matmul_bfloat16_gflops_per_s"]
    return "\n".join(
        [
            f"{result['variant']} at scale {result['scale']} on {result['device']}, {result['threads']} threads,"
            f" {machine['processor']}, torch {result['torch']}, commit {str(result['commit'])[:10]}",
            f"peaks: matrix product {peaks['matmul_gflops_per_s']:.0f} GFLOP/s"
            + ("" if bfloat16 is None else f" ({bfloat16:.0f} in bfloat16)")
            + f", convolution {convolutions} GFLOP/s, copy {peaks['copy_gb_per_s']:.1f} GB/s",
            "",
        ]
    )


def _convolution(peak: Mapping[str, Any]) -> str:
    """Return the best rate of a convolution, and those of the other ways."""
    others = [f"{rate:.0f} {way}" for way, rate in peak["by_layout"].items() if way != peak["layout"]]
    told = "; ".join([f"{peak['channels']} channels", peak["layout"], *others])
    return f"{peak['gflops_per_s']:.0f} ({told})"


def _cells(row: Row) -> tuple[str, ...]:
    fast, ratio = row["fast"], row["ratio"]
    seconds, roofline = fast["seconds"], fast["roofline"]
    gflop = fast["flops"] / 1e9
    return (
        row["phase"],
        time_text(seconds["median"]),
        f"{time_text(seconds['min'])} to {time_text(seconds['max'])}",
        str(seconds["num_runs"]),
        f"{fast['units_per_s']:.3g} {row['unit']}s/s"
        if fast["units_per_s"] < 1e3
        else f"{fast['units_per_s']:,.0f} {row['unit']}s/s",
        f"{gflop:.3g}" if gflop else "-",
        f"{gflop / seconds['median']:.3g}" if gflop else "-",
        f"{roofline['fraction']:.0%}" if fast["bytes"] else "-",
        roofline["bound"],
        bytes_text(fast["peak_memory_bytes"]),
        "-" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
    )


def _projections(result: Mapping[str, Any]) -> list[str]:
    lines = [""]
    if (epoch := result["projected_epoch_s"]) is not None:
        parts = ", ".join(f"{name} {time_text(value)}" for name, value in epoch.items())
        lines.append(
            f"an epoch, projected from its phases, not run: {time_text(sum(epoch.values()))} ({parts})"
        )
    if (run := result["projected_atari_100k"]) is not None:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in run["hours"].items())
        lines.append(
            f"a whole Atari-100k run, projected: {run['total_hours']:.2f} hours ({parts}),"
            f" at most {bytes_text(run['peak_memory_bytes'])} in one phase"
        )
    return lines if len(lines) > 1 else []
