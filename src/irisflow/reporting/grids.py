"""Pictures of many variants and games on a page: how many of each, how large, and where they are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irisflow.reporting import findings, quality_findings, tables
from irisflow.reporting.films import Film, film_picture, times_shown
from irisflow.reporting.held_out import worst_and_middle
from irisflow.reporting.pictures import Reconstructions, mean_psnr, picture, psnr, spread_indices
from irisflow.reporting.quality import Quality
from irisflow.reporting.style import Summary, number, variant_names

PAGE_WIDTH = 267.0
FRAME_WIDTHS = {1: 14.2, 2: 14.2, 3: 14.2, 4: 12.6, 5: 12.6}  # three rows of pictures fit on a page
SMALL_FRAME_WIDTH = 9.8  # of more pictures beside each other: four rows fit
LARGEST_FRAME_WIDTH = 24.0
LARGEST_FILM_FRAME_WIDTH = 20.0  # two strips fit on a page
MOST_PICTURES_ACROSS = 5
MANY_PICTURES = 12
MOST_SMALL_FRAMES = 320  # of all games and variants: more make the file large, and nobody looks at them
MOST_FILMED_TWICE = 4  # variants; more are filmed once and set smaller
MOST_FILMED_GAMES = 6
Key = tuple[str, str, int]
Block = dict[str, Any]


def picture_grid(
    summary: Summary, frames: Mapping[Key, Reconstructions], building: Path, *, are_same: bool
) -> Block:
    """Return F9: a row of pictures per game, a column per variant, the first seed of each; a note without any.

    Where frames `are_same` for all variants of a game, those are shown that are drawn worst, and some around the median.
    The pictures are written into `building / "figures"`.
    """
    if not frames:
        return {"kind": "note", "id": "F9", "text": "No reconstructions were saved."}
    first = {(variant, game): seed for variant, game, seed in sorted(frames, reverse=True)}
    names = [name for name in variant_names(summary) if any(name == found for found, _ in first)]
    games = [game for game in summary["study"]["games"] if any((name, game) in first for name in names)]
    is_many = len(first) > min(MANY_PICTURES, 2 * min(len(names), MOST_PICTURES_ACROSS))
    num_saved = max(len(found.originals) for found in frames.values())
    most = max(2, min(5, MOST_SMALL_FRAMES // len(first))) if is_many else 8
    across = int(PAGE_WIDTH / (most * SMALL_FRAME_WIDTH + 5)) if is_many else 0
    num_columns = min(len(names), max(MOST_PICTURES_ACROSS, across))
    small = FRAME_WIDTHS.get(num_columns, SMALL_FRAME_WIDTH)
    num_shown = min(most, num_saved, int((PAGE_WIDTH / num_columns - 5) / small))
    chosen = {
        game: worst_and_middle([found for key, found in frames.items() if key[1] == game], num_shown)
        for game in (games if are_same else ())
    }
    cells: list[dict[str, Any] | None] = []
    for index, (name, game) in enumerate((name, game) for game in games for name in names):
        cell: dict[str, Any] = {"variant": tables.variant_cell(summary, name), "game": game, "path": None}
        if (name, game) in first:
            found = frames[name, game, first[name, game]]
            path = building / "figures" / f"F9-{index + 1:03d}.png"
            shown = chosen.get(game) or spread_indices(len(found.originals), num_shown)
            picture(found, shown, magnification=1 if is_many else 4).save(path)
            cell["path"] = f"/figures/{path.name}"
            cell["num_shown"] = len(shown)
            cell["labels"] = [f"{number(float(level), 0)} dB" for level in psnr(found)[shown]]
            cell["text"] = f"seed {first[name, game]}, {number(float(psnr(found).mean()), 1)} dB"
        cells.append(cell)
        if name == names[-1]:
            cells += [None] * (-len(cells) % num_columns)  # the next game starts a row
    return {
        "kind": "pictures",
        "id": "F9",
        "title": findings.reconstructions(mean_psnr(frames), names),
        "caption": f"Rows: original, reconstruction, four times |error|. {_which(are_same)} Above a frame: its PSNR, at most"
        " 60 dB; beside the seed: mean over all saved frames. Magnified without smoothing.",
        "layers": "frames, their reconstructions and four times the error",
        "num_columns": num_columns,
        "frame_width": small
        if is_many
        else min(LARGEST_FRAME_WIDTH, (PAGE_WIDTH / num_columns - 8) / num_shown),
        "cells": cells,
    }


def _which(are_same: bool) -> str:
    if not are_same:
        return "Frames of each run's own test games."
    return (
        "Held-out frames, the same for all variants of a game: first those that are drawn worst (mean PSNR over the"
        " variants), then those around the median."
    )


def film_grid(summary: Summary, quality: Quality, films: Mapping[Key, list[Film]], building: Path) -> Block:
    """Return F15: for each game a row of starts as film strips, a column per variant, the first seed of each."""
    first = {(variant, game): seed for variant, game, seed in sorted(films, reverse=True)}
    games = [game for game in summary["study"]["games"] if any(game == found for _, found in first)]
    if not games:
        return {"kind": "note", "id": "F15", "text": "No film was saved."}
    names = [name for name in variant_names(summary) if any(name == found for found, _ in first)]
    is_many = len(names) > MOST_FILMED_TWICE
    num_columns = min(4, -(-len(names) // 2)) if is_many else min(len(names), 2)
    num_films = 2 if len(games) == 1 and not is_many else 1
    cells: list[dict[str, Any] | None] = []
    for game in games[:MOST_FILMED_GAMES]:
        for index in range(num_films):
            for name in names:
                key = (name, game, first.get((name, game), -1))
                cells.append(
                    _film_cell(summary, key, films.get(key, [])[index:], len(cells), num_columns, building)
                )
            cells += [None] * (-len(cells) % num_columns)
    shown = f" The first {MOST_FILMED_GAMES} of {len(games)} games." if len(games) > MOST_FILMED_GAMES else ""
    return {
        "kind": "pictures",
        "id": "F15",
        "title": quality_findings.films(quality),
        "caption": "Rows: what really followed, what was imagined (drawn tokens), four times |difference|. t: frames"
        f" after the last real one that the world model saw. Finished agents; magnified without smoothing.{shown}",
        "layers": "frames that followed, imagined ones and four times the difference",
        "num_columns": num_columns,
        "cells": cells,
    }


def _film_cell(
    summary: Summary, key: Key, films: list[Film], index: int, num_columns: int, building: Path
) -> dict[str, Any]:
    name, game, seed = key
    cell: dict[str, Any] = {"variant": tables.variant_cell(summary, name), "game": game, "path": None}
    if not films:
        return {**cell, "missing": "no film"}
    times = times_shown(films[0], most={1: 9, 2: 7}.get(num_columns, 4))
    path = building / "figures" / f"F15-{index + 1:03d}.png"
    film_picture(films[0], times, magnification=2).save(path)
    return {
        **cell,
        "path": f"/figures/{path.name}",
        "num_shown": len(times),
        "frame_width": min(LARGEST_FILM_FRAME_WIDTH, (PAGE_WIDTH / num_columns - 8) / len(times)),
        "labels": [f"t = {time}" for time in times],
        "text": f"seed {seed}",
    }
