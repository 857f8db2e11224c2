"""Draws a scene: one picture for the window, the film and the tests; its left part alone for the page."""

from functools import lru_cache

import numpy as np
from PIL import Image

from irisflow.viewer.drawing import (
    BLACK,
    EDGE,
    FAINT,
    GREEN,
    GROUND,
    ORANGE,
    PANEL,
    RED,
    SKY,
    TEXT,
    YELLOW,
    Canvas,
    Colour,
    centred,
    text_width,
)  # fmt: skip
from irisflow.viewer.scene import Bar, Picture, Scene

SIDE = 512  # of the frame
MARGIN, GAP = 16, 12
BAR_HEIGHT, STRIP, FOOT = 40, 144, 28
PANEL_WIDTH = 400
WIDTH = 2 * MARGIN + SIDE + MARGIN + PANEL_WIDTH
HEIGHT = BAR_HEIGHT + MARGIN + SIDE + GAP + STRIP + FOOT
LEFT, TOP = MARGIN, BAR_HEIGHT + MARGIN
RIGHT = MARGIN + SIDE + MARGIN
THUMBNAIL = 112
MOST_BARS = 6


def draw(scene: Scene) -> Picture:
    """Return the whole picture of a scene, (HEIGHT, WIDTH, 3)."""
    canvas = Canvas(WIDTH, HEIGHT)
    _title(canvas, scene)
    canvas.paste((LEFT, TOP), frame(scene))
    canvas.box((LEFT - 1, TOP - 1, LEFT + SIDE + 1, TOP + SIDE + 1), edge=EDGE)
    _strip(canvas, scene)
    _facts(canvas, scene)
    canvas.image.paste(_keys(scene.keys), (RIGHT, HEIGHT - FOOT - _keys(scene.keys).height))
    canvas.text((LEFT, HEIGHT - FOOT + 5), scene.status, size=13, colour=YELLOW, most=WIDTH - 2 * MARGIN)
    return canvas.array()


def frame(scene: Scene) -> Picture:
    """Return the frame with what is drawn over it: token grid, tokens that changed, a question. SIDE x SIDE."""
    canvas = Canvas(SIDE, SIDE, BLACK)
    canvas.paste((0, 0), centred(scene.picture, SIDE))
    if scene.changed is not None:
        _changes(canvas, scene.changed)
    if scene.tokens is not None:
        _tokens(canvas, scene.tokens)
    if scene.question:
        _banner(canvas, scene.question, SIDE // 2)
    elif scene.is_paused:
        canvas.box((SIDE - 92, 10, SIDE - 10, 36), fill=GROUND, edge=TEXT)
        canvas.text((SIDE - 51, 23), "paused", size=14, anchor="mm")
    return canvas.array()


def futures(scene: Scene) -> Picture | None:
    """Return the futures side by side, numbered, (STRIP, SIDE, 3); None where there are none."""
    if not scene.futures:
        return None
    canvas = Canvas(SIDE, STRIP)
    room = (SIDE - THUMBNAIL * len(scene.futures)) // max(1, len(scene.futures) - 1)
    for number, (picture, label) in enumerate(zip(scene.futures, scene.future_labels, strict=True)):
        left = number * (THUMBNAIL + min(room, 21))
        canvas.paste(
            (left, 0), np.array(Image.fromarray(picture).resize((THUMBNAIL,) * 2, Image.Resampling.NEAREST))
        )
        canvas.box((left, 0, left + THUMBNAIL, THUMBNAIL), edge=SKY, width=2)
        canvas.text((left, THUMBNAIL + 6), f"{number + 1}", size=16, colour=SKY, is_bold=True)
        canvas.text((left + 18, THUMBNAIL + 8), label, size=12, colour=TEXT, most=THUMBNAIL - 16)
    return canvas.array()


def _title(canvas: Canvas, scene: Scene) -> None:
    canvas.box((0, 0, WIDTH, BAR_HEIGHT), fill=PANEL)
    middle = BAR_HEIGHT // 2
    canvas.text((MARGIN, middle), scene.title, size=15, is_bold=True, anchor="lm", most=SIDE - 40)
    right = WIDTH - MARGIN
    rate = f"{scene.rate:.1f} of {scene.speed:g} steps/s" if scene.rate else f"{scene.speed:g} steps/s"
    canvas.text((right, middle), rate, size=13, colour=FAINT, anchor="rm")
    badges: list[tuple[str, Colour]] = [
        (scene.source, SKY if scene.source == "world model" else GREEN),
        (scene.player, ORANGE if scene.player == "you" else FAINT),
    ]
    left = RIGHT
    for text, colour in badges:
        width = text_width(text, 13, True)
        canvas.box((left, 8, left + width + 16, BAR_HEIGHT - 8), edge=colour, width=2)
        canvas.text((left + 8, middle), text, size=13, colour=colour, is_bold=True, anchor="lm")
        left += width + 24
    if scene.is_recording:
        canvas.disc((RIGHT - 46, middle), 6, RED)
        canvas.text((RIGHT - 36, middle), "rec", size=13, colour=TEXT, is_bold=True, anchor="lm")


def _strip(canvas: Canvas, scene: Scene) -> None:
    """Below the frame: the futures, or what kind of picture is shown."""
    top = TOP + SIDE + GAP
    shown = futures(scene)
    if shown is not None:
        canvas.paste((LEFT, top), shown)
        return
    canvas.text((LEFT, top), scene.picture_name, size=13, colour=FAINT, most=SIDE)
    if scene.num_changed is not None:
        canvas.text((LEFT, top + 22), f"tokens changed: {scene.num_changed}", size=13, colour=ORANGE)


def _facts(canvas: Canvas, scene: Scene) -> None:
    top = TOP
    for name, value in scene.rows:
        canvas.text((RIGHT, top), name, size=15, colour=FAINT, most=170)
        canvas.text((RIGHT + 180, top), value, size=15, is_bold=True, most=PANEL_WIDTH - 180)
        top += 23
    top += 8
    for bar in _most_likely(scene.bars):
        _bar(canvas, bar, top)
        top += 21


def _most_likely(bars: tuple[Bar, ...]) -> list[Bar]:
    """Return the bars that there is room for: where there are many actions, the likeliest ones, in their order."""
    best = sorted(range(len(bars)), key=lambda index: -bars[index].share)[:MOST_BARS]
    return [bars[index] for index in sorted(best)]


def _bar(canvas: Canvas, bar: Bar, top: int) -> None:
    left, width = RIGHT + 180, PANEL_WIDTH - 180 - 52
    colour = ORANGE if bar.is_taken else SKY
    name = f"▸ {bar.name}" if bar.is_taken else f"   {bar.name}"
    canvas.text((RIGHT, top), name, size=13, colour=TEXT if bar.is_taken else FAINT, most=170)
    canvas.box((left, top + 2, left + width, top + 15), fill=PANEL)
    canvas.box((left, top + 2, left + round(width * bar.share), top + 15), fill=colour)
    canvas.text((left + width + 48, top), f"{bar.share:.0%}", size=13, anchor="ra")


@lru_cache(maxsize=16)
def _keys(keys: tuple[tuple[str, str, str], ...]) -> Image.Image:
    """Return the panel of keys in two columns, group by group, so high as it must be."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for group, key, meaning in keys:
        groups.setdefault(group, []).append((key, meaning))
    columns = _columns(groups)
    line, column_width = 19, PANEL_WIDTH // 2
    most = max((sum(len(rows) + 1 for _, rows in column) for column in columns), default=0)
    canvas = Canvas(PANEL_WIDTH, line * most + 16)
    canvas.box((0, 0, PANEL_WIDTH, 1), fill=EDGE)
    for number, column in enumerate(columns):
        left, top = number * column_width, 10
        for group, rows in column:
            canvas.text((left, top), group, size=12, colour=SKY, is_bold=True)
            top += line
            for key, meaning in rows:
                canvas.text((left, top), key, size=12, is_bold=True, most=58)
                canvas.text((left + 62, top), meaning, size=12, colour=FAINT, most=column_width - 68)
                top += line
    return canvas.image


def _columns(groups: dict[str, list[tuple[str, str]]]) -> list[list[tuple[str, list[tuple[str, str]]]]]:
    """Return the groups in two columns of about the same length, in order."""
    items = list(groups.items())
    lengths = [len(rows) + 1 for _, rows in items]
    best = min(range(len(items) + 1), key=lambda cut: max(sum(lengths[:cut]), sum(lengths[cut:])))
    return [items[:best], items[best:]]


def _tokens(canvas: Canvas, tokens: np.ndarray) -> None:
    """Write each token into its cell."""
    rows, columns, codes = tokens.shape
    height, width = SIDE / rows, SIDE / columns
    size = max(9, min(16, int(height / (codes + 1.2))))
    for row in range(rows):
        for column in range(columns):
            left, top = round(column * width), round(row * height)
            canvas.box((left, top, round(left + width), round(top + height)), edge=EDGE)
            for place, token in enumerate(tokens[row, column].tolist()):
                where = (left + 4, top + 3 + place * (size + 3))
                canvas.text((where[0] + 1, where[1] + 1), str(token), size=size, colour=BLACK)
                canvas.text(where, str(token), size=size, colour=TEXT)


def _changes(canvas: Canvas, changed: np.ndarray) -> None:
    """Frame the cells whose tokens are new: orange on black, seen on any picture."""
    rows, columns = changed.shape
    height, width = SIDE / rows, SIDE / columns
    for row, column in np.argwhere(changed).tolist():
        left, top, right, bottom = (
            round(column * width), round(row * height), round((column + 1) * width), round((row + 1) * height),
        )  # fmt: skip
        canvas.box((left, top, right, bottom), edge=BLACK, width=4)
        canvas.box((left + 1, top + 1, right - 1, bottom - 1), edge=ORANGE, width=2)


def _banner(canvas: Canvas, text: str, middle: int) -> None:
    half = text_width(text, 18, True) // 2 + 18
    centre = SIDE // 2
    canvas.box((centre - half, middle - 28, centre + half, middle + 28), fill=GROUND, edge=YELLOW, width=2)
    canvas.text((centre, middle), text, size=18, is_bold=True, anchor="mm")
