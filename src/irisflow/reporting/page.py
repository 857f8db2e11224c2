"""`summary.html`: the report as one file for a browser, with the same numbers, and nothing from any network."""

import base64
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image

from irisflow.reporting.drawing import Drawing
from irisflow.reporting.films import Film
from irisflow.reporting.interactive import interactive_svg
from irisflow.reporting.style import Look
from irisflow.reporting.tables import table_as_csv

TEMPLATE = "summary.html.jinja"
FRAME_MS = 220
GAP, PAPER = 2, 255
ERROR_GAIN = 4
MOST_FILMS = 12
Key = tuple[str, str, int]


def page(
    content: Mapping[str, Any],
    drawings: Mapping[str, Drawing],
    styles: Mapping[str, Look],
    films: Mapping[Key, Sequence[Film]],
    *,
    building: Path,
    summary: bytes,
    provenance: bytes,
    diffs: Mapping[str, bytes],
    folders: Mapping[Key, str],
) -> str:
    """Return the page. `content` is what the PDF is set from; its pictures lie in `building`. The same gives the same.

    `folders` are those of the runs, relative to the page; `diffs` are uncommitted changes by their sha256.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csv"] = lambda block: _uri("text/csv", table_as_csv(block).encode())
    environment.filters["file"] = lambda path: _file(building / str(path).lstrip("/"))
    drawn = {
        identifier: interactive_svg(drawing, _text(building, identifier, "svg"), styles, folders)
        for identifier, drawing in drawings.items()
    }
    figures = {
        identifier: {
            "svg": Markup(svg),
            "has_links": "<a " in svg,
            "csv": _uri("text/csv", _text(building, identifier, "csv").encode()),
        }
        for identifier, svg in drawn.items()
    }
    return environment.get_template(TEMPLATE).render(
        content=content,
        figures=figures,
        variants=[
            {"name": name, "colour": look.colour, "marker": _file(building / "page" / f"marker-{index}.svg")}
            for index, (name, look) in enumerate(styles.items())
        ],
        films=_animations(films, list(styles)),
        summary=_uri("application/gzip", gzip.compress(summary, mtime=0)),
        provenance=_uri("application/gzip", gzip.compress(provenance, mtime=0)),
        diffs={sha256: _uri("text/plain", data) for sha256, data in diffs.items()},
        citation=_citation(content),
    )


def _animations(films: Mapping[Key, Sequence[Film]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one animation a variant and game: its first start, of the first seed."""
    first: dict[tuple[str, str], Key] = {}
    for key in sorted(films):
        if films[key]:
            first.setdefault(key[:2], key)
    ordered = sorted(first.values(), key=lambda key: (key[1], names.index(key[0])))
    return [
        {
            "place": names.index(variant),
            "name": variant,
            "game": game,
            "seed": seed,
            "frames": len(films[variant, game, seed][0].truth),
            **_pictures(films[variant, game, seed][0]),
        }
        for variant, game, seed in ordered[:MOST_FILMS]
    ]


def _pictures(film: Film) -> dict[str, str]:
    """Return a moving PNG and its last frame: what followed, what was imagined, and four times |difference|."""
    difference = np.abs(film.truth.astype(np.int16) - film.imagination)
    shown = np.minimum(ERROR_GAIN * difference, 255).astype(np.uint8)
    gap = np.full((len(film.truth), 3, film.truth.shape[2], GAP), PAPER, np.uint8)
    frames = np.concatenate([film.truth, gap, film.imagination, gap, shown], axis=3).transpose(0, 2, 3, 1)
    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    moves = {
        "save_all": True,
        "append_images": pictures[1:],
        "duration": FRAME_MS,
        "loop": 0,
        "default_image": False,
    }
    return {"image": _png(pictures[0], moves), "still": _png(pictures[-1], {})}


def _png(picture: Image.Image, options: Mapping[str, Any]) -> str:
    file = io.BytesIO()
    picture.save(file, "png", **options)
    return _uri("image/png", file.getvalue())


def _citation(content: Mapping[str, Any]) -> str:
    """Return what to cite these results as."""
    status = content["status"]
    method = "Method: Micheli, Alonso, Fleuret, ICLR 2023."
    return f"{content['title']} (irisflow, {status['runs']}; {status['text']}). {method}"


def _text(building: Path, identifier: str, kind: str) -> str:
    return (building / "figures" / f"{identifier}.{kind}").read_text(encoding="utf-8")


def _file(path: Path) -> str:
    kinds = {".png": "image/png", ".svg": "image/svg+xml"}
    return _uri(kinds[path.suffix], path.read_bytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
