"""Text and pictures on an RGB canvas: a font that is always there, sharp pixels, colours that all people tell apart."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from irisflow.viewer.scene import Picture

Colour = tuple[int, int, int]
# Okabe and Ito's palette: distinct with every common kind of colour blindness. On a dark ground.
BLACK, GROUND, PANEL, EDGE = (0, 0, 0), (18, 20, 24), (30, 33, 39), (70, 75, 84)
TEXT, FAINT = (236, 238, 240), (166, 172, 182)
ORANGE, SKY, GREEN, YELLOW, RED = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0)


class Canvas:
    """A picture to draw on."""

    def __init__(self, width: int, height: int, colour: Colour = GROUND) -> None:
        self.image = Image.new("RGB", (width, height), colour)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self,
        place: tuple[int, int],
        text: str,
        *,
        size: int = 15,
        colour: Colour = TEXT,
        is_bold: bool = False,
        anchor: str = "la",
        most: int | None = None,
    ) -> None:
        """Write one line; `most` pixels wide at most: what does not fit ends in dots. Anchors are Pillow's."""
        mask, (left, top) = _mask(fitted(text, size, is_bold, most), size, is_bold, anchor)
        if mask is not None:
            self.image.paste(colour, (place[0] + left, place[1] + top), mask)

    def box(
        self,
        corners: tuple[int, int, int, int],
        *,
        fill: Colour | None = None,
        edge: Colour | None = None,
        width: int = 1,
    ) -> None:
        """Draw a rectangle from left, top to right, bottom, those excluded."""
        left, top, right, bottom = corners
        if right > left and bottom > top:
            self._draw.rectangle((left, top, right - 1, bottom - 1), fill=fill, outline=edge, width=width)

    def disc(self, centre: tuple[int, int], radius: int, colour: Colour) -> None:
        """Draw a filled circle."""
        (x, y), r = centre, radius
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def paste(self, place: tuple[int, int], picture: Picture) -> None:
        """Put a picture at its left, top."""
        self.image.paste(Image.fromarray(picture), place)

    def array(self) -> Picture:
        """Return the picture."""
        return np.array(self.image)


def fit(picture: Picture, side: int) -> Picture:
    """Return the picture as large as whole pixels allow within side x side; smaller where it does not fit at all.

    The Atari's pixels are wider than high, by about 3 to 2: its 160 columns are drawn so.
    """
    height, width = picture.shape[:2]
    if max(height, width) > side:
        scale = side / max(height, width)
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    down, across = side // height, side // width
    if width != 160 or height < 200:
        down = across = min(down, across)
    return picture.repeat(across, axis=1).repeat(down, axis=0)


def centred(picture: Picture, side: int) -> Picture:
    """Return the picture, scaled by `fit`, in the middle of a black square."""
    scaled = fit(picture, side)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - scaled.shape[0]) // 2, (side - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square


def fitted(text: str, size: int, is_bold: bool, most: int | None) -> str:
    """Return the text, shortened to so many pixels."""
    if most is None or text_width(text, size, is_bold) <= most:
        return text
    while text and text_width(f"{text}…", size, is_bold) > most:
        text = text[:-1]
    return f"{text.rstrip()}…"


@lru_cache(maxsize=4096)
def text_width(text: str, size: int, is_bold: bool = False) -> int:
    """Return how many pixels wide a line is."""
    return round(_font(size, is_bold).getlength(text))


@lru_cache(maxsize=4096)
def _mask(text: str, size: int, is_bold: bool, anchor: str) -> tuple[Image.Image | None, tuple[int, int]]:
    """Return where a line's ink is, and the place of its corner from the anchor: most lines are drawn again and again."""
    left, top, right, bottom = (round(side) for side in _font(size, is_bold).getbbox(text, anchor=anchor))
    if right <= left or bottom <= top:
        return None, (0, 0)
    mask = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, font=_font(size, is_bold), fill=255, anchor=anchor)
    return mask, (left - 1, top - 1)


@lru_cache
def _font(size: int, is_bold: bool) -> ImageFont.FreeTypeFont:
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / name), size)
