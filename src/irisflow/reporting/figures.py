"""The report's figures: each is drawn from the summary alone and comes with the rows that it plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from irisflow.reporting import findings, published
from irisflow.reporting.ablation import draw_tornado, has_tornado
from irisflow.reporting.drawing import (
    WIDTH,
    Dot,
    Drawing,
    Row,
    banded_line,
    dots_of,
    legend,
    mark_pretraining,
    name_rows,
    panel_grid,
    reference_lines,
    row_height,
    row_of_axes,
    staggered,
    steps_text,
    whisker,
)
from irisflow.reporting.efficiency import draw_front, draw_spending, has_spending, prices
from irisflow.reporting.interactions import draw_interactions, grids_of
from irisflow.reporting.learning import (
    draw_game_curves,
    draw_random_play,
    draw_training,
    has_game_curves,
)
from irisflow.reporting.optimism import draw_association, draw_promises, has_association
from irisflow.reporting.phases import draw_phases
from irisflow.reporting.quality_figures import draw_quality
from irisflow.reporting.ranks import draw_ranks, ranks_height
from irisflow.reporting.style import (
    GRID,
    INK,
    PALE,
    Look,
    Summary,
    drawing_style,
    inches,
    interval,
    looks,
    number,
    p_statement,
    plural,
    seeds_text,
    time_unit,
    variant_names,
)

MARKER_EVERY = 12  # thresholds of F3
INTERVAL_ROOM = 0.45  # of a row, for an interval of the first row of F5
HIGHEST = 148.0  # millimetres: what a page has room for below its title
METRIC_TITLES = {
    "iqm": "IQM",
    "median": "Median",
    "mean": "Mean",
    "optimality_gap": "Optimality gap (less is better)",
}


def draw_all(summary: Summary) -> dict[str, Drawing]:
    """Return every figure that the summary has numbers for, by identifier."""
    drawings: dict[str, Drawing] = {}
    for condition, draw in (
        (any(summary["aggregates"].values()), draw_aggregates),
        (any(record["iqm_difference"] for record in summary["comparisons"].values()), draw_difference),
        (bool(summary["profiles"]), draw_profiles),
        (bool(summary.get("ranks")), draw_ranks),
        (bool(summary["comparisons"]), draw_matrix),
        (bool(summary["comparisons"]), draw_forest),
        (any(summary["curves"]["iqm"].values()), draw_iqm_curve),
        (has_tornado(summary), draw_tornado),
        (bool(grids_of(summary)), draw_interactions),
        (has_spending(summary), draw_spending),
        (has_game_curves(summary), draw_game_curves),
        (bool(summary["random_play"]), draw_random_play),
        (True, draw_strips),
        (bool(summary["cost"]["rows"]), draw_cost),
        (bool(prices(summary)), draw_front),
        (bool(summary["cost"].get("phases")), draw_phases),  # an older summary has none
        (bool(summary["training"]), draw_training),
    ):
        if condition:
            with drawing_style():
                drawing = draw(summary)
            drawings[drawing.identifier] = drawing
    if summary["world_model"]:
        with drawing_style():
            drawings.update({drawing.identifier: drawing for drawing in draw_quality(summary)})
            if summary["world_model"]["curves"]:
                drawings["F22"] = draw_promises(summary)
            if has_association(summary):
                drawings["F23"] = draw_association(summary)
    return drawings


def draw_aggregates(summary: Summary) -> Drawing:
    """Return F1: four aggregate metrics with their intervals, published ones below a rule."""
    names = variant_names(summary)
    others = published.drawn(summary)
    records = {**summary["aggregates"], **others}
    styles = {**looks(summary), **dict.fromkeys(others, published.LOOK)}
    height = 24 + 8 * len(names) + (8 if len(others) == 1 else 5) * len(others)
    figure = Figure(figsize=(inches(WIDTH), inches(min(height, HIGHEST))), layout="constrained")
    rows: list[Row] = []
    num_values = next(record["iqm"]["num_values"] for record in records.values() if record)
    for axes, (metric, title) in zip(row_of_axes(figure, 4, sharey=True), METRIC_TITLES.items(), strict=True):
        for place, (name, record) in enumerate(records.items()):
            if metric in record:
                whisker(axes, place, record[metric], styles[name], is_hollow=name in others)
                known = {"games_low": None, "games_high": None, **record[metric]}
                rows.append({"metric": metric, "variant": name, **known})
        if len(records) > len(names):
            axes.axhline(len(names) - 0.5, color=PALE, linewidth=0.8)
        axes.set_title(findings.iqm_label(num_values) if metric == "iqm" else title, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        name_rows(axes, list(records))
    return Drawing("F1", findings.aggregates(summary), _aggregates_caption(summary), figure, rows)


def _aggregates_caption(summary: Summary) -> str:
    num_seeds, num_games = len(summary["block"]["seeds"]), len(summary["block"]["normalised_games"])
    reps = summary["study"]["bootstrap_reps"]
    others = (
        " Below the rule, hollow: published agents over the same games, for orientation, not ranked; no mark where their"
        " runs are not known."
        if summary["published"]
        else ""
    )
    if num_seeds == 1:
        return f"Normalised scores, {plural(num_games, 'game')}, one seed: point values, no interval.{others}"
    return (
        f"Normalised scores, n = {seeds_text(summary)} x {plural(num_games, 'game')}. Bar: 95 % stratified percentile"
        f" bootstrap over"
        f" seeds ({reps:,} resamples, rliable). Thin line: games resampled too.{others}"
    )


def draw_difference(summary: Summary) -> Drawing:
    """Return F2: each variant's IQM minus the baseline's."""
    records = {
        name: record
        for name, record in summary["comparisons"].items()
        if record["iqm_difference"] is not None
    }
    styles = looks(summary)
    figure = Figure(figsize=(inches(WIDTH), inches(20 + 8 * len(records))), layout="constrained")
    axes = figure.subplots()
    rows: list[Row] = []
    for place, (name, record) in enumerate(records.items()):
        whisker(axes, place, record["iqm_difference"], styles[name])
        label = f"{interval(record['iqm_difference'])}   {p_statement(record['p_iqm'])} (not adjusted)"
        axes.annotate(label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7)
        rows.append({"variant": name, **record["iqm_difference"], "p_iqm": record["p_iqm"]})
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(f"{findings.aggregate_label(summary)} minus that of {summary['study']['baseline']}")
    name_rows(axes, list(records))
    caption = (
        "Bar: 95 % bootstrap interval of the difference, runs of both variants resampled. p: stratified"
        " permutation test on"
        " the IQM; the verdicts on page 1 rest on the probability of improvement instead, which has more"
        " power."
    )
    return Drawing("F2", findings.difference(summary), caption, figure, rows)


def draw_profiles(summary: Summary) -> Drawing:
    """Return F3: the share of runs above each score, on a linear and on a compressed axis."""
    styles, profiles = looks(summary), summary["profiles"]
    thresholds = np.array(profiles["thresholds"])
    below = ranks_height(len(styles)) if summary.get("ranks") else 0.0
    figure = Figure(figsize=(inches(WIDTH), inches(min(110, 132 - below))), layout="constrained")
    rows: list[Row] = []
    for axes, is_linear in zip(row_of_axes(figure, 2, sharey=True), (True, False), strict=True):
        for index, (name, shares) in enumerate(profiles["shares"].items()):
            places = staggered(index, len(profiles["shares"]), MARKER_EVERY)
            banded_line(axes, thresholds, shares, styles[name], marker_every=places)
        if not is_linear:
            axes.set_xscale("symlog", linthresh=0.5)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_title(
                "The same, larger scores compressed (linear up to 0.5, then logarithmic)", loc="left"
            )
            ticks = [
                tick for tick in (-2, -1, 0, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if _within(tick, thresholds)
            ]
            axes.set_xticks(ticks)
        else:
            axes.set_title("Linear axis", loc="left")
        axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="normalised score τ", ylim=(-0.02, 1.02), xlim=(thresholds[0], thresholds[-1]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(visible=True)
    figure.axes[0].set_ylabel("share of runs above τ")
    legend(figure, styles)
    for name, shares in profiles["shares"].items():
        rows += [
            {"variant": name, "threshold": tau, **share}
            for tau, share in zip(profiles["thresholds"], shares, strict=True)
        ]
    return Drawing("F3", findings.profiles(summary), _band_caption(summary), figure, rows)


def _within(tick: float, thresholds: np.ndarray) -> bool:
    return bool(thresholds[0] <= tick <= thresholds[-1])


def _band_caption(summary: Summary) -> str:
    num_seeds, num_games = len(summary["block"]["seeds"]), len(summary["block"]["normalised_games"])
    if num_seeds == 1:
        return f"{plural(num_games, 'game')}, one seed: no band. Dotted: 1, the human or perfect score."
    return (
        f"n = {seeds_text(summary)} x {plural(num_games, 'game')}. Bands: pointwise 95 % stratified percentile bootstrap."
        " Dotted: 1, the human or perfect score. A curve that lies above another everywhere is better"
        " throughout."
    )


def draw_matrix(summary: Summary) -> Drawing:
    """Return F4: the probability of improvement of every variant over every other."""
    names, matrix = variant_names(summary), summary["improvement_matrix"]
    width = matrix_width(summary)
    figure = Figure(figsize=(inches(width), inches(width - 8)), layout="constrained")
    axes = figure.subplots()
    rows: list[Row] = []
    for row, x in enumerate(names):
        for column, y in enumerate(names):
            record = matrix[x].get(y)
            _matrix_cell(axes, row, column, record)
            if record:
                rows.append({"x": x, "y": y, **record})
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    places = np.arange(len(names)) + 0.5
    axes.set_xticks(places, names, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.set(xlabel="Y", ylabel="X")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    caption = (
        "P(a run of X scores higher than a run of Y), mean over games, ties one half; below it the 95 %"
        " interval."
        " Hatched: no interval, or it holds 0.5."
    )
    return Drawing("F4", findings.matrix(summary), caption, figure, rows)


def matrix_width(summary: Summary) -> float:
    """Return the width of F4 in millimetres."""
    return min(130.0, 50.0 + 18.0 * len(variant_names(summary)))


def _matrix_cell(axes: Axes, row: int, column: int, record: Mapping[str, Any] | None) -> None:
    if record is None:
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=GRID, edgecolor="white", linewidth=1.5))
        return
    is_open = record["low"] is None or record["low"] <= 0.5 <= record["high"]
    strength = min(1.0, 2 * abs(record["value"] - 0.5))
    red, green, blue = (0.0, 0.45, 0.70) if record["value"] > 0.5 else (0.84, 0.37, 0.0)
    shade = tuple(1 - 0.75 * strength * (1 - channel) for channel in (red, green, blue))
    axes.add_patch(
        Rectangle(
            (column, row),
            1,
            1,
            facecolor=shade,
            edgecolor="#c3c7cc",
            linewidth=0,
            hatch="////" if is_open else None,
        )
    )
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="white", linewidth=1.5))
    box = {"facecolor": shade, "edgecolor": "none", "pad": 1.0}
    axes.text(
        column + 0.5, row + 0.42, number(record["value"], 2), ha="center", va="center", fontsize=9, bbox=box
    )
    if record["low"] is not None:
        text = f"[{number(record['low'], 2)}, {number(record['high'], 2)}]"
        axes.text(column + 0.5, row + 0.72, text, ha="center", va="center", fontsize=6, bbox=box)


def draw_forest(summary: Summary) -> Drawing:
    """Return F5: the probability of improvement over the baseline, overall and per game."""
    styles, comparisons = looks(summary), summary["comparisons"]
    games = summary["block"]["games"]
    height = min(132.0, 30 + (len(games) + 1) * (4 + 2.5 * len(comparisons)))
    figure = Figure(figsize=(inches(260 - matrix_width(summary)), inches(height)), layout="constrained")
    axes = figure.subplots()
    rows: list[Row] = []
    offsets = np.linspace(-0.27, 0.27, len(comparisons)) if len(comparisons) > 1 else [0.0]
    room = INTERVAL_ROOM * (len(comparisons) - 1)  # intervals stand below each other, not upon each other
    tops = np.linspace(-room, 0.0, len(comparisons))
    for offset, top, (name, record) in zip(offsets, tops, comparisons.items(), strict=True):
        whisker(axes, top, record["improvement"], styles[name])
        values = [record["per_game"][game] for game in games]
        places = np.arange(1, len(games) + 1) + offset
        axes.plot(values, places, styles[name].marker, color=styles[name].colour, markersize=3.5, alpha=0.9)
        rows.append({"variant": name, "game": "all", **record["improvement"]})
        rows += [
            {"variant": name, "game": game, "value": value, "low": None, "high": None}
            for game, value in zip(games, values, strict=True)
        ]
    axes.axvline(0.5, color=INK, linewidth=0.8)
    axes.axhline(0.5, color=PALE, linewidth=0.8)
    axes.set(xlim=(-0.03, 1.03), xlabel=f"P(improvement over {summary['study']['baseline']})")
    name_rows(axes, ["All games", *games])
    axes.set_yticks([-room / 2, *range(1, len(games) + 1)], ["All games", *games])
    axes.set_ylim(top=-0.6 - room)
    legend(figure, {name: styles[name] for name in comparisons})
    caption = (
        "Top row: mean over games with its 95 % interval (none with one seed). Below: single games, points"
        " only;"
        " with n runs each a game can only take steps of 1/n²."
    )
    return Drawing("F5", findings.forest(summary), caption, figure, rows)


def draw_iqm_curve(summary: Summary) -> Drawing:
    """Return F6: the IQM over the steps of training."""
    styles = looks(summary)
    figure = Figure(
        figsize=(inches(WIDTH), inches(62 if len(summary["curves"]["games"]) <= 3 else 125)),
        layout="constrained",
    )
    axes = figure.subplots()
    rows: list[Row] = []
    for name, points in summary["curves"]["iqm"].items():
        if points:
            steps = np.array([point["env_step"] for point in points])
            banded_line(axes, steps, points, styles[name], marker_every=1)
            rows += [{"variant": name, **point} for point in points]
    mark_pretraining(axes, summary)
    axes.set(
        xlabel="environment steps, those of recorded pretraining data included",
        ylabel="normalised score, IQM",
    )
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
    axes.grid(visible=True)
    _frames_on_top(axes, summary["curves"].get("frames_per_step"))
    legend(figure, styles)
    return Drawing("F6", findings.learning(summary), _curve_caption(summary), figure, rows)


def _frames_on_top(axes: Axes, frames_per_step: float | None) -> None:
    """Draw a second scale for the emulator's frames, where every game has as many a step, and more than one."""
    if frames_per_step is None or frames_per_step == 1:
        return
    top = axes.secondary_xaxis(
        "top",
        functions=(
            lambda steps: np.asarray(steps) * frames_per_step,
            lambda frames: np.asarray(frames) / frames_per_step,
        ),
    )
    top.set_xlabel(f"frames of the emulator, {frames_per_step:g} a step")
    top.xaxis.set_major_formatter(FuncFormatter(steps_text))


def _curve_caption(summary: Summary) -> str:
    pretrained = [name for name, steps in summary["curves"]["pretraining_env_steps"].items() if steps]
    mark = f" Dashed: end of the recorded pretraining steps of {', '.join(pretrained)}." if pretrained else ""
    band = (
        " Bands: pointwise 95 % stratified bootstrap."
        if len(summary["block"]["seeds"]) > 1
        else " One seed: no band."
    )
    return f"Only steps at which every run of the variant was evaluated; nothing is interpolated.{band}{mark}"


def draw_strips(summary: Summary) -> Drawing:
    """Return F8: the final score of every run as a dot, game by game."""
    styles, games = looks(summary), summary["games"]
    figure, panels = panel_grid(list(games), row_height=72)
    rows: list[Row] = []
    dots: dict[Line2D, list[Dot]] = {}
    for game, axes in panels.items():
        for place, (name, record) in enumerate(games[game]["variants"].items()):
            values = list(record["seeds"].values())
            offsets = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(len(values))
            (line,) = axes.plot(
                place + offsets, values, styles[name].marker, color=styles[name].colour, alpha=0.85
            )
            dots[line] = dots_of(name, game, record["seeds"])
            if record["mean"] is not None:
                axes.hlines(
                    record["mean"], place - 0.32, place + 0.32, color=styles[name].colour, linewidth=1
                )
            rows += [
                {"game": game, "variant": name, "seed": seed, "return_raw": value}
                for seed, value in record["seeds"].items()
            ]
        reference_lines(axes, games[game]["reference"])
        axes.set_xlim(-0.6, len(styles) - 0.4)
        axes.set_xticks([])
    legend(figure, styles)
    caption = (
        "One dot per seed: mean raw score of the final evaluation; line: mean over seeds. Dotted: random"
        " (lower) and human"
        " or perfect (upper) score, where it lies in the panel."
    )
    return Drawing("F8", findings.strips(summary), caption, figure, rows, dots)


def draw_cost(summary: Summary) -> Drawing:
    """Return F10: wall-clock by stage for each variant."""
    cost_rows = summary["cost"]["rows"]
    owners = list(summary["cost"]["wall_s_by_variant"])
    stages = list(summary["cost"]["wall_s_by_stage"])
    greys = np.linspace(0.35, 0.85, len(stages))
    figure = Figure(
        figsize=(inches(WIDTH), inches(22 + row_height(len(owners), 7.0) * len(owners))), layout="constrained"
    )
    axes = figure.subplots()
    ends = dict.fromkeys(owners, 0.0)
    unit, seconds = time_unit(max(summary["cost"]["wall_s_by_variant"].values(), default=0.0))
    for index, stage in enumerate(stages):
        shares = {row["variant"]: row["wall_s"] / seconds for row in cost_rows if row["stage"] == stage}
        lengths = [shares.get(owner, 0.0) for owner in owners]
        axes.barh(
            np.arange(len(owners)),
            lengths,
            left=[ends[owner] for owner in owners],
            height=0.6,
            color=str(greys[index]),
            edgecolor="white",
            hatch=("", "///", "...", "\\\\\\", "xxx")[index % 5],
            label=stage,
        )
        ends = {owner: ends[owner] + length for owner, length in zip(owners, lengths, strict=True)}
    name_rows(axes, owners)
    axes.set_xlabel(f"{unit}, summed over jobs")
    figure.legend(loc="outside upper left", ncols=min(6, len(stages)))
    rows = [{key: row[key] for key in ("stage", "variant", "num_jobs", "wall_s")} for row in cost_rows]
    shared = " shared: work that serves several variants." if "shared" in owners else ""
    caption = f"Sum over all games and seeds; jobs may have run side by side.{shared}"
    return Drawing("F10", findings.cost(summary), caption, figure, rows)


def marker_figure(look: Look) -> Figure:
    """Return a variant's marker alone, for tables."""
    figure = Figure(figsize=(0.14, 0.14))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.plot([0], [0], look.marker, color=look.colour, markersize=6)
    axes.set(xlim=(-1, 1), ylim=(-1, 1))
    axes.axis("off")
    return figure
