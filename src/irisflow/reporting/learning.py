"""What tells whether the agents learn at all: their runs beside random play, their scores and losses while training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from irisflow.reporting import findings
from irisflow.reporting.drawing import (
    Dot,
    Drawing,
    Row,
    broken,
    dots_of,
    legend,
    mark_pretraining,
    panel_grid,
    reference_lines,
    staggered,
    steps_text,
)
from irisflow.reporting.style import INK, SHADE, Look, Summary, looks, plural, several

RANDOM = Look("#80868b", "x")
FEW_ACROSS = 4


def draw_random_play(summary: Summary) -> Drawing:
    """Return F12: the final score of every run as a dot, beside the runs of random play, game by game."""
    styles, random = looks(summary), summary["random_play"]
    figure, panels = panel_grid(list(random["games"]), row_height=66)
    rows: list[Row] = []
    dots: dict[Line2D, list[Dot]] = {}
    for game, axes in panels.items():
        level, arms = random["games"][game], summary["games"][game]["variants"]
        _random_band(axes, level)
        _arm(axes, 0, level, RANDOM)
        rows += _run_rows(game, "random play", level)
        for place, (name, record) in enumerate(arms.items(), start=1):
            dots[_arm(axes, place, record, styles[name])] = dots_of(name, game, record["seeds"])
            rows += _run_rows(game, name, record)
        names = ["random play", *arms] if len(panels) <= FEW_ACROSS and len(arms) <= FEW_ACROSS else []
        axes.set_xticks(range(len(names)), [broken(name) for name in names])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(arms) + 0.6)
    figure.supylabel("raw score", fontsize=7.5)
    legend(figure, {"random play": RANDOM, **styles})
    num_seeds = max(len(level["seeds"]) for level in random["games"].values())
    caption = (
        "One mark per run: mean raw score of the final evaluation. Line: mean over runs. Grey: mean ± standard"
        f" deviation of random play ({num_seeds} runs of {_episodes(random)} per game, uniformly random actions"
        " in the agents' test games)."
    )
    return Drawing("F12", findings.learns(summary), caption, figure, rows, dots)


def _episodes(random: Mapping[str, Any]) -> str:
    least, most = random["least_episodes"], random["most_episodes"]
    return f"{least} episodes" if least == most else f"{least} to {most} episodes"


def _random_band(axes: Axes, level: Mapping[str, Any]) -> None:
    if level["std"] is not None:
        axes.axhspan(level["mean"] - level["std"], level["mean"] + level["std"], color=SHADE, linewidth=0)
    axes.axhline(level["mean"], color=RANDOM.colour, linewidth=0.9)


def _arm(axes: Axes, place: float, record: Mapping[str, Any], look: Look) -> Line2D:
    """Draw one arm's runs side by side, and their mean as a line. Return the runs."""
    values = list(record["seeds"].values())
    width = 0.06 * min(len(values) - 1, 9)
    offsets = np.linspace(-width, width, len(values)) / 2 if len(values) > 1 else np.zeros(len(values))
    (runs,) = axes.plot(place + offsets, values, look.marker, color=look.colour, alpha=0.85)
    if record["mean"] is not None:
        axes.hlines(record["mean"], place - 0.36, place + 0.36, color=look.colour, linewidth=1.2)
    return runs


def _run_rows(game: str, arm: str, record: Mapping[str, Any]) -> list[Row]:
    return [
        {"game": game, "arm": arm, "seed": seed, "return_raw": value}
        for seed, value in record["seeds"].items()
    ]


def has_game_curves(summary: Summary) -> bool:
    """Return whether any run was evaluated while training."""
    return any(record["seeds"] for row in summary["curves"]["games"].values() for record in row.values())


def draw_game_curves(summary: Summary) -> Drawing:
    """Return F7: the raw score while training, game by game, and that of the final evaluation."""
    styles, games = looks(summary), summary["curves"]["games"]
    figure, panels = panel_grid(list(games), row_height=74)
    rows: list[Row] = []
    for game, axes in panels.items():
        finals, level = summary["games"][game]["variants"], _random_level(summary, game)
        for name, record in games[game].items():
            _seed_lines(axes, record, styles[name])
            _final(axes, finals[name], styles[name])
            rows += _curve_rows(game, name, record["seeds"])
            rows += _curve_rows(game, name, _final_points(finals[name]), split="final")
        mark_pretraining(axes, summary)
        if level:
            _random_band(axes, level)
        else:
            reference_lines(axes, summary["games"][game]["reference"])
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
    figure.supxlabel("environment steps, those of recorded pretraining data included", fontsize=7.5)
    figure.supylabel("test return, raw", fontsize=7.5)
    final = Line2D([], [], color=INK, marker="*", markersize=8, markerfacecolor="white", linestyle="none")
    extra: dict[str, Line2D | Patch] = {"final evaluation": final}
    if summary["random_play"]:
        extra["random play, mean ± std"] = Patch(facecolor=SHADE, edgecolor=RANDOM.colour)
    legend(figure, styles, extra=extra)
    return Drawing("F7", curves_finding(summary), _curves_caption(summary), figure, rows)


def curves_finding(summary: Summary) -> str:
    """Return on how many games each variant's mean score rises from the first evaluation to the last."""
    games = summary["curves"]["games"]
    ways: dict[str, list[bool]] = {}
    for row in games.values():
        for name, record in row.items():
            if len(record["steps"]) > 1:
                ways.setdefault(name, []).append(record["mean"][-1] > record["mean"][0])
    if not ways:
        num_runs = sum(len(record["seeds"]) for row in games.values() for record in row.values())
        return f"Raw score while training: {plural(num_runs, 'run')} on {plural(len(games), 'game')}."
    told = several([(sum(found), f"{name} {sum(found)} of {len(found)}") for name, found in ways.items()])
    return f"Games on which the mean score is higher at the last evaluation while training than at the first: {told}."


def _random_level(summary: Summary, game: str) -> Mapping[str, Any] | None:
    levels: Mapping[str, Mapping[str, Any]] = summary["random_play"].get("games", {})
    return levels.get(game)


def _curves_caption(summary: Summary) -> str:
    references = (
        "Grey: random play."
        if summary["random_play"]
        else "Dotted: random (lower) and human or perfect (upper) score, where it lies in the panel."
    )
    return (
        "Thick: mean over seeds where every seed was evaluated; thin: each seed. Star: mean over seeds of the final"
        f" evaluation, its bar from the least to the greatest seed. {references}"
    )


def _curve_rows(game: str, name: str, seeds: Mapping[str, Any], split: str = "curve") -> list[Row]:
    return [
        {"game": game, "variant": name, "split": split, "seed": seed, "env_step": step, "return_raw": value}
        for seed, points in seeds.items()
        for step, value in points
    ]


def _final_points(record: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    return {seed: [[record["env_step"], value]] for seed, value in record["seeds"].items()}


def _final(axes: Axes, record: Mapping[str, Any], look: Look) -> None:
    """Draw the mean of the final evaluation, hollow, with a bar over its seeds."""
    values = list(record["seeds"].values())
    if not values:
        return
    step = record["env_step"]
    axes.vlines(step, min(values), max(values), color=look.colour, linewidth=0.8)
    axes.plot(
        [step],
        [record["mean"]],
        marker="*",
        color=look.colour,
        markerfacecolor="white",
        markersize=8,
        zorder=3,
        clip_on=False,
    )


def _seed_lines(axes: Axes, record: Mapping[str, Any], look: Look) -> None:
    for points in record["seeds"].values():
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=look.colour, linewidth=0.6, alpha=0.55)
    if record["steps"]:
        axes.plot(
            record["steps"],
            record["mean"],
            color=look.colour,
            marker=look.marker,
            linewidth=1.8,
            markersize=3.5,
        )


def draw_training(summary: Summary) -> Drawing:
    """Return F11: the training losses, the median over runs."""
    styles, losses = looks(summary), summary["training"]
    figure, panels = panel_grid(list(losses))
    rows: list[Row] = []
    for loss, axes in panels.items():
        for index, (name, runs) in enumerate(losses[loss].items()):
            steps, medians = _median_of_runs(runs)
            every = staggered(index, len(losses[loss]), max(1, len(steps) // 8))
            axes.plot(
                steps,
                medians,
                color=styles[name].colour,
                marker=styles[name].marker,
                markersize=3.5,
                markevery=every,
            )
            rows += [
                {"loss": loss, "variant": name, "env_steps": step, "median": value, "num_runs": len(runs)}
                for step, value in zip(steps, medians, strict=True)
            ]
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
    figure.supxlabel("environment steps", fontsize=7.5)
    shown = {name for runs in losses.values() for name in runs}
    legend(figure, {name: look for name, look in styles.items() if name in shown})
    caption = (
        "Median over games and seeds of the mean loss of each epoch. Losses of different variants may be"
        " defined differently."
    )
    return Drawing("F11", losses_finding(rows), caption, figure, rows)


def _median_of_runs(runs: Mapping[str, Sequence[Sequence[float]]]) -> tuple[list[float], list[float]]:
    by_step: dict[float, list[float]] = {}
    for points in runs.values():
        for step, value in points:
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    return steps, [float(np.median(by_step[step])) for step in steps]


def losses_finding(rows: Sequence[Row]) -> str:
    """Return of how many variants each loss ends lower than it begins, from the rows of F11."""
    medians: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        medians.setdefault(row["loss"], {}).setdefault(row["variant"], []).append(row["median"])
    falls = {loss: sum(found[-1] < found[0] for found in of.values()) for loss, of in medians.items()}
    told = [f"{loss} {falls[loss]} of {len(of)}" for loss, of in medians.items()]
    return f"Variants whose training loss ends lower than it began: {', '.join(told)}."
