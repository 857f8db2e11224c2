"""One line a variant out of the reports of finished studies: score, tokenizer, world model, time. Markdown and CSV.

    python benchmarks/study_table.py reports/ other/reports/ --csv table.csv

Each folder holds a study's `summary.json`. Means over games and seeds; the tokenizer and the world model are those of the
finished agents, on the held-out episodes. `tokens right` is the share of a frame's tokens that the world model's likeliest
ones get right when it is given all frames before; `changed tokens right` counts those that differ from the last frame's.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

AHEAD = 5  # frames
COLUMNS = {
    "score": 2, "PSNR dB": 1, "SSIM": 3, "perplexity": 1, "tokens right": 3, "changed tokens right": 3,
    f"PSNR {AHEAD} ahead": 1, "seconds": 0,
}  # fmt: skip
Row = Mapping[str, Any]


def main() -> int:
    """Print the tables, and write all rows as CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    rows = []
    for folder in options.folders:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        study = summary["study"]
        found = [
            {"study": study["name"], "variant": name, **line(summary, name)}
            for name in (each["name"] for each in study["variants"])
        ]
        rows += found
        sys.stdout.write(f"\n### {study['name']}\n\n{table(found)}\n\n{copied(summary, study['baseline'])}\n")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["study", "variant", *COLUMNS])
            writer.writeheader()
            writer.writerows(
                {**row, **{name: shown(row[name], COLUMNS[name]) for name in COLUMNS}} for row in rows
            )
    return 0


def line(summary: Row, variant: str) -> dict[str, float | None]:
    """Return the figures of one variant; None where nothing was measured."""
    games = [
        game["variants"][variant]["mean"] for game in summary["games"].values() if variant in game["variants"]
    ]
    trained = [
        row for row in summary["cost"]["rows"] if (row["stage"], row["variant"]) == ("train_agent", variant)
    ]
    return dict(
        zip(
            COLUMNS,
            (
                average(games),
                *(scalar(summary, variant, metric) for metric in ("psnr", "ssim", "perplexity")),
                curve(summary, variant, "token_accuracy", "teacher_forced", 1),
                curve(summary, variant, "changed_token_accuracy", "teacher_forced", 1),
                curve(summary, variant, "open_psnr", "greedy", AHEAD),
                average(row["wall_s"] / row["num_jobs"] for row in trained),
            ),
            strict=True,
        )
    )


def copied(summary: Row, baseline: str) -> str:
    """Return what a copy of the last frame reaches: what a world model has to beat."""
    right = curve(summary, baseline, "token_accuracy", "copy_last", 1)
    psnr = curve(summary, baseline, "open_psnr", "copy_last", AHEAD)
    ahead = f"a copy of the frame has {shown(psnr, 1)} dB {AHEAD} ahead."
    return f"The last frame's tokens again (tokenizer of `{baseline}`): {shown(right, 3)} right; {ahead}"


def scalar(summary: Row, variant: str, metric: str) -> float | None:
    """Return the newest value of a metric, the mean over games."""
    rows = (r for r in summary["world_model"]["scalars"] if (r["variant"], r["metric"]) == (variant, metric))
    return average(row["mean"] for row in newest(rows))


def curve(summary: Row, variant: str, metric: str, mode: str, horizon: int) -> float | None:
    """Return the newest value of a metric so many frames ahead after the longest context, the mean over games."""
    wanted = (variant, metric, mode)
    rows = [r for r in summary["world_model"]["curves"] if (r["variant"], r["metric"], r["mode"]) == wanted]
    rows = [
        row for row in rows if row["context"] == max(r["context"] for r in rows) and horizon in row["horizon"]
    ]
    return average(row["mean"][row["horizon"].index(horizon)] for row in newest(rows))


def newest(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the last step."""
    kept = list(rows)
    return [row for row in kept if row["env_step"] == max(r["env_step"] for r in kept)]


def average(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is there."""
    there = [value for value in values if value is not None]
    return mean(there) if there else None


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of one study as a Markdown table."""
    lines = [f"| variant | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    lines += [
        f"| `{row['variant']}` | {' | '.join(shown(row[name], digits) for name, digits in COLUMNS.items())} |"
        for row in rows
    ]
    return "\n".join(lines)


def shown(value: float | None, digits: int) -> str:
    """Return a figure with so many digits after the point, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
