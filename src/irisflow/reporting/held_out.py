"""Reconstructions of frames that all variants of a game were shown: those of the films, with the worst ones first."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np

from irisflow.reporting.films import Film
from irisflow.reporting.pictures import Reconstructions, psnr

Key = tuple[str, str, int]


def first_seeds(keys: Iterable[Key]) -> list[Key]:
    """Return the run of the lowest seed of every variant and game, sorted: no other is shown as pictures."""
    return [next(found) for _, found in groupby(sorted(keys), key=lambda key: key[:2])]


def held_out_frames(films: Mapping[Key, Sequence[Film]]) -> dict[Key, Reconstructions]:
    """Return the films' frames and what each run's tokenizer makes of them; nothing unless a game's are the same for all."""
    frames = {
        key: Reconstructions(
            np.concatenate([film.truth for film in found]),
            np.concatenate([film.reconstruction for film in found]),
        )
        for key, found in films.items()
        if found
    }
    shown: dict[str, Reconstructions] = {}
    is_same = [
        np.array_equal(shown.setdefault(game, found).originals, found.originals)
        for (_, game, _), found in frames.items()
    ]
    return frames if all(is_same) else {}


def worst_and_middle(frames: Iterable[Reconstructions], num_shown: int) -> list[int]:
    """Return which frames are drawn worst, then as many around the median, by PSNR: the mean over all that drew them."""
    levels = np.mean([psnr(found) for found in frames], axis=0)
    order = np.argsort(levels, kind="stable").tolist()
    num_worst = -(-min(num_shown, len(order)) // 2)
    num_middle = min(num_shown, len(order)) - num_worst
    start = max(num_worst, (len(order) - num_middle) // 2)
    return [*order[:num_worst], *order[start : start + num_middle]]
