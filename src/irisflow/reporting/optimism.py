"""What world models promise their policies: rewards over the horizon, imagined and real returns, the critic's values."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from irisflow.reporting.drawing import WIDTH, Dot, Drawing, Row, legend, name_rows, score_text
from irisflow.reporting.quality import Place, Quality, Record, quality_of
from irisflow.reporting.style import INK, PALE, Look, Summary, each, inches, looks, number, plural, signed

MODE = "own_policy"
SCORE_TICKS = (-100, -10, -1, 0, 1, 10, 100, 1000)  # where scores lie far apart
Styles = Mapping[str, Look]


def draw_promises(summary: Summary) -> Drawing:
    """Return F22: errors of summed rewards, imagined minus real returns of the agents' own policies, values and targets."""
    quality, styles = quality_of(summary), looks(summary)
    row = max(34.0, 18 + 3.6 * len(quality.variants))
    height = min(138.0, 14 + row * len(quality.places)) if len(quality.places) > 1 else 14 + max(46.0, row)
    figure = Figure(figsize=(inches(WIDTH), inches(height)), layout="constrained")
    grid = figure.subplots(len(quality.places), 4, squeeze=False)
    rows: list[Row] = []
    for place, panels in zip(quality.places, grid, strict=True):
        names = quality.measured(place)
        rows += _reward_errors(panels[0], quality, place, names, styles)
        rows += _gaps(panels[1], quality, place, names, styles)
        rows += _ends(panels[2], quality, place, names, styles)
        rows += _critics(panels[3], quality, place, names, styles)
        for axes in panels:
            axes.title.set_fontsize(7.5)
    extra: dict[str, Line2D] = {
        "no reward ever": Line2D([], [], color=INK, linestyle=":", linewidth=0.9),
        "real": Line2D([], [], color=PALE, marker="o", markerfacecolor="white", linestyle="none"),
        "imagined, or expected": Line2D([], [], color=PALE, marker="o", linestyle="none"),
    }
    legend(figure, {name: styles[name] for name in quality.variants}, extra=extra)
    caption = (
        "First panel: recorded actions of the held-out episodes; distance of the imagined from the real sum of"
        " reward signs. The others: every finished agent's own policy, from moments of its own play, imagined and in the"
        " game; signs of rewards up to the end of the episode, the same starts in both. Above 0: it imagines more than"
        " there is. Critic: its mean value at these starts against what came over the horizon, discounted, and the value"
        " there. Mean over seeds; of single games the bar goes from the least to the greatest."
    )
    return Drawing("F22", promises_finding(quality), caption, figure, rows)


def promises_finding(quality: Quality) -> str:
    """Return how much more return is imagined than there is."""
    place = quality.everything
    gaps = {name: pair for name in quality.measured(place) if (pair := _last_pair(quality, name, place))}
    if not gaps:
        errors = {
            name: curve["mean"][-1]
            for name in quality.measured(place)
            if (curve := _curve(quality, name, place, "reward_error", "greedy"))
        }
        told = each(errors, lambda value: number(value, 2))
        return f"Error of the imagined sum of rewards at the end of the horizon: {told}."
    horizon = next(iter(gaps.values()))[2]
    told = each(
        {name: imagined - real for name, (imagined, real, _) in gaps.items()}, lambda gap: signed(gap, 2)
    )
    return f"Imagined minus real return of the same policy, {plural(horizon, 'step')} ahead: {told}."


def _curve(quality: Quality, name: str, place: Place, metric: str, mode: str) -> Record | None:
    return quality.curve(name, place, metric, mode, max(quality.steps(name, place)))


def _last_pair(quality: Quality, name: str, place: Place) -> tuple[float, float, int] | None:
    """Return imagined and real return at the end of the horizon, and the horizon."""
    imagined = _curve(quality, name, place, "imagined_return", MODE)
    real = _curve(quality, name, place, "real_return", MODE)
    if not imagined or not real:
        return None
    return imagined["mean"][-1], real["mean"][-1], int(imagined["horizon"][-1])


def _reward_errors(
    axes: Axes, quality: Quality, place: Place, names: Sequence[str], styles: Styles
) -> list[Row]:
    rows: list[Row] = []
    nothing = None
    for name in names:
        curve = _curve(quality, name, place, "reward_error", "greedy")
        nothing = nothing or _curve(quality, name, place, "reward_error", "copy_last")
        if curve:
            _line(axes, curve["horizon"], curve["mean"], styles[name])
            rows += _rows(place, name, "reward error", curve["horizon"], curve["mean"])
    if nothing:
        axes.plot(nothing["horizon"], nothing["mean"], color=INK, linewidth=0.9, linestyle=":")
        rows += _rows(place, "no reward ever", "reward error", nothing["horizon"], nothing["mean"])
    _horizon_axes(axes, "error of the sum of rewards")
    axes.set_ylabel(place.label)
    return rows


def _gaps(axes: Axes, quality: Quality, place: Place, names: Sequence[str], styles: Styles) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        imagined = _curve(quality, name, place, "imagined_return", MODE)
        real = _curve(quality, name, place, "real_return", MODE)
        if imagined and real:
            gap = [a - b for a, b in zip(imagined["mean"], real["mean"], strict=True)]
            _line(axes, imagined["horizon"], gap, styles[name])
            rows += _rows(place, name, "imagined minus real return", imagined["horizon"], gap)
    axes.axhline(0, color=INK, linewidth=0.8)
    _horizon_axes(axes, "imagined minus real return")
    if not rows:
        _absent(axes)
    return rows


def _ends(axes: Axes, quality: Quality, place: Place, names: Sequence[str], styles: Styles) -> list[Row]:
    """Draw both returns at the end of the horizon, a row for each variant."""
    rows: list[Row] = []
    for row, name in enumerate(names):
        pair = _last_pair(quality, name, place)
        if pair:
            imagined, real, horizon = pair
            _dumbbell(axes, row, real, imagined, styles[name])
            rows += _rows(place, name, "imagined return", [horizon], [imagined])
            rows += _rows(place, name, "real return", [horizon], [real])
    _named(axes, names, "return at the end of the horizon")
    return rows


def _critics(axes: Axes, quality: Quality, place: Place, names: Sequence[str], styles: Styles) -> list[Row]:
    rows: list[Row] = []
    for row, name in enumerate(names):
        step = max(quality.steps(name, place))
        value, target = (quality.scalar(name, place, metric, step) for metric in ("value", "value_target"))
        if value and target:
            _dumbbell(axes, row, target["mean"], value["mean"], styles[name])
            if value["least"] is not None:
                axes.hlines(
                    row,
                    value["least"],
                    value["greatest"],
                    color=styles[name].colour,
                    linewidth=3.0,
                    alpha=0.35,
                )
            rows += _rows(place, name, "value", [""], [value["mean"]])
            rows += _rows(place, name, "value's target", [""], [target["mean"]])
    _named(axes, names, "critic: value")
    return rows


def _line(axes: Axes, horizons: Sequence[int], values: Sequence[float], look: Look) -> None:
    axes.plot(horizons, values, color=look.colour, marker=look.marker, markersize=3.5)


def _dumbbell(axes: Axes, row: float, real: float, told: float, look: Look) -> None:
    axes.plot([real, told], [row, row], color=look.colour, linewidth=1.0, alpha=0.6)
    axes.plot([real], [row], look.marker, color=look.colour, markerfacecolor="white")
    axes.plot([told], [row], look.marker, color=look.colour)


def _horizon_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("steps ahead")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True)


def _named(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_title(title, loc="left")
    name_rows(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if not axes.lines:
        _absent(axes)


def _absent(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", fontsize=7)


def _rows(
    place: Place, name: str, measure: str, horizons: Sequence[int | str], values: Sequence[float]
) -> list[Row]:
    return [
        {"place": place.label, "variant": name, "measure": measure, "horizon": horizon, "value": value}
        for horizon, value in zip(horizons, values, strict=True)
    ]


def has_association(summary: Summary) -> bool:
    """Return whether there are enough runs to ask whether better prediction goes with higher scores."""
    return bool(summary.get("prediction_and_score", {}).get("association"))


def draw_association(summary: Summary) -> Drawing:
    """Return F23: every run's score against how well its world model predicts."""
    found, styles = summary["prediction_and_score"], looks(summary)
    figure = Figure(figsize=(inches(190.0), inches(50)), layout="constrained")
    axes = figure.subplots()
    dots: dict[Line2D, list[Dot]] = {}
    for name, look in styles.items():
        mine = [run for run in found["runs"] if run["variant"] == name]
        x, y = ([run[key] for run in mine] for key in ("open_psnr", "score"))
        (line,) = axes.plot(x, y, look.marker, color=look.colour, alpha=0.8)
        dots[line] = [Dot(name, run["game"], run["seed"], number(run["score"])) for run in mine]
    scores = np.array([run["score"] for run in found["runs"]])
    if np.abs(scores).max() > 5 * max(1.0, float(np.median(np.abs(scores)))):
        axes.set_yscale("symlog", linthresh=1)
        axes.set_yticks([tick for tick in SCORE_TICKS if scores.min() <= tick <= scores.max()])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(score_text))
    axes.set(xlabel="PSNR of imagined frames, dB, mean over the horizon", ylabel="normalised score")
    axes.grid(visible=True)
    legend(figure, styles)
    caption = (
        "One mark per run. PSNR: the finished world model alone with the recorded actions of the held-out episodes,"
        " likeliest tokens. Spearman's correlation of ranks within each game, so that easy games do not make one; 95 %"
        " bootstrap interval over runs. A correlation over variants and seeds says nothing of what causes what."
    )
    return Drawing("F23", association_finding(summary), caption, figure, list(found["runs"]), dots)


def association_finding(summary: Summary) -> str:
    """Return the correlation, and whether its interval holds 0."""
    found = summary["prediction_and_score"]["association"]
    bounds = f"[{signed(found['low'], 2)}, {signed(found['high'], 2)}]"
    told = f"Spearman {signed(found['value'], 2)} {bounds}, {plural(found['num_runs'], 'run')}"
    if found["low"] <= 0 <= found["high"]:
        return f"Runs that predict better neither score higher nor lower for sure: {told}."
    direction = "higher" if found["value"] > 0 else "lower"
    return f"Runs whose world models predict better score {direction}: {told}."
