"""The report: the PDF, the page, its numbers and their provenance as JSON, the figures, put in place at once."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import typst

from irisflow.reporting import findings, tables
from irisflow.reporting.ablation import ablation_table, axes_of
from irisflow.reporting.appendix import appendix
from irisflow.reporting.compact import cost_table_of, phases_table_of
from irisflow.reporting.drawing import Drawing, save
from irisflow.reporting.efficiency import targets_table
from irisflow.reporting.figures import draw_all, marker_figure
from irisflow.reporting.films import Film, read_films
from irisflow.reporting.grids import film_grid, picture_grid
from irisflow.reporting.held_out import first_seeds, held_out_frames
from irisflow.reporting.interactions import interaction_table
from irisflow.reporting.interactive import tag
from irisflow.reporting.latex import write_tables
from irisflow.reporting.notes import configuration_tables, power_note
from irisflow.reporting.page import page
from irisflow.reporting.pictures import Reconstructions, mean_psnr, psnr, read_reconstructions
from irisflow.reporting.provenance import (
    input_tables,
    provenance_json,
    provenance_table,
    shown_diffs,
    without_jobs,
)
from irisflow.reporting.published import drawn as published_rows
from irisflow.reporting.published import published_scores_tables, published_table
from irisflow.reporting.quality import quality_of
from irisflow.reporting.quality_tables import quality_tables
from irisflow.reporting.style import Look, Summary, drawing_style, in_order, looks
from irisflow.storage import compact_json, json_bytes

TEMPLATE = Path(__file__).with_name("summary.typ")
FEW_GAMES = 3
Key = tuple[str, str, int]
Block = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """What is shown as pixels, by variant, game and seed."""

    frames: Mapping[Key, Reconstructions]
    films: Mapping[Key, list[Film]]


def build_report(
    summary: Summary,
    reconstructions: Mapping[Key, Path],
    output_dir: Path,
    *,
    films: Mapping[Key, Path] | None = None,
    folders: Mapping[Key, str] | None = None,
) -> None:
    """Write `paths.REPORT_FILES` but the manifest into `output_dir`, once all is built.

    `reconstructions` maps (variant, game, seed) to a `reconstructions.safetensors`, `films` to a
    `film.safetensors`, `folders` to the run's folder as seen from the report. The same inputs give the same bytes.
    Raises DataError for a damaged file of these.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    shown = in_order(summary)
    origin = provenance_json(summary)
    pictures = Pictures(
        {key: read_reconstructions(path) for key, path in sorted(reconstructions.items())},
        {key: read_films(films[key]) for key in first_seeds(films)} if films else {},
    )
    with tempfile.TemporaryDirectory(prefix=".report-", dir=output_dir) as folder:
        building = Path(folder)
        (building / "figures").mkdir()
        drawings, styles = draw_all(shown), looks(shown)
        for drawing in drawings.values():
            tag(drawing.figure, styles)
            save(drawing, building / "figures")
        told = {**without_jobs(summary), "reconstructions": _reconstruction_summary(pictures.frames)}
        numbers = compact_json(told)
        (building / "summary.json").write_bytes(numbers)
        (building / "provenance.json").write_bytes(origin)
        (building / "metrics.json").write_bytes(json_bytes(headline_numbers(shown)))
        _draw_markers(styles, building / "page")
        pages = [*_gathered(_sections(shown, drawings, pictures, building)), *appendix(shown)]
        content = {**_frame(shown, origin), "sections": pages}
        text = page(
            content,
            drawings,
            styles,
            pictures.films,
            building=building,
            summary=numbers,
            provenance=origin,
            diffs=shown_diffs(summary),
            folders=folders or {},
        )
        (building / "summary.html").write_text(text, encoding="utf-8")
        write_tables(content["sections"], building / "tables")
        _typeset(content, building)
        _put_in_place(building, output_dir)


def headline_numbers(summary: Summary) -> dict[str, Any]:
    """Return the few numbers of each variant that `dvc metrics diff` compares across commits."""
    told: dict[str, Any] = {}
    for name, metrics in summary["aggregates"].items():
        told[name] = {metric: record["value"] for metric, record in metrics.items()}
        if comparison := summary["comparisons"].get(name):
            told[name] |= {
                "probability_of_improvement": comparison["improvement"]["value"],
                "p_holm": comparison["p_holm"],
            }
    return {"runs": summary["coverage"]["num_present"], "variants": told}


def _reconstruction_summary(frames: Mapping[Key, Reconstructions]) -> dict[str, Any]:
    runs = [
        {"variant": variant, "game": game, "seed": seed, "psnr_db": float(psnr(found).mean())}
        for (variant, game, seed), found in frames.items()
    ]
    return {"runs": runs, "mean_psnr_db": mean_psnr(frames)}


def _draw_markers(styles: Mapping[str, Look], folder: Path) -> None:
    """Write each variant's marker as a picture to stand before its name."""
    folder.mkdir()
    for index, look in enumerate(styles.values()):
        with drawing_style():
            marker_figure(look).savefig(
                folder / f"marker-{index}.svg", metadata={"Date": None}, transparent=True
            )


def _typeset(content: Mapping[str, Any], building: Path) -> None:
    """Compile the PDF in the markers' folder, which is removed afterwards."""
    folder = building / "page"
    shutil.copyfile(TEMPLATE, folder / "summary.typ")
    (folder / "page.json").write_bytes(compact_json(content))
    pdf = typst.compile(
        str(folder / "summary.typ"),
        root=str(building),
        font_paths=[str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")],
        ignore_system_fonts=True,
    )
    (building / "summary.pdf").write_bytes(pdf)
    shutil.rmtree(folder)


def _put_in_place(building: Path, output_dir: Path) -> None:
    """Replace the old report by the new one; the PDF, whose date a workflow looks at, comes last."""
    for name in ("figures", "tables"):
        if (output_dir / name).exists():
            (output_dir / name).replace(building / f"old-{name}")
    for name in (
        "figures",
        "tables",
        "metrics.json",
        "provenance.json",
        "summary.json",
        "summary.html",
        "summary.pdf",
    ):
        (building / name).replace(output_dir / name)


def _frame(summary: Summary, origin: bytes) -> dict[str, Any]:
    """Return what the template needs outside the sections: title, footer, answer, caveats, status line."""
    study = summary["study"]
    return {
        "title": study["title"],
        "subtitle": f"Study {study['name']} · {_budget(study)}",
        "footer": f"{study['name']} · scale {study['scale']}",
        "stamp": study["stamp"],
        "answer": findings.answer(summary),
        "caveats": summary["caveats"],
        "status": _status(summary),
        "keywords": [
            *(f"commit {commit}" for commit in summary["provenance"]["commits"]),
            f"scores sha256 {summary['scores_sha256']}",
            f"provenance.json sha256 {hashlib.sha256(origin).hexdigest()}",
        ],
    }


def _budget(study: Mapping[str, Any]) -> str:
    """Return scale and budget in words, the scale once."""
    note = str(study["scale_note"])
    return note if study["scale"] in note.lower() else f"scale {study['scale']}: {note}"


def _status(summary: Summary) -> dict[str, Any]:
    record, coverage = summary["provenance"], summary["coverage"]
    commits = ", ".join(commit[:12] for commit in record["commits"]) or "unknown"
    tree = "with uncommitted changes" if record["is_dirty"] else "clean tree"
    planned = coverage["num_present"] + len(coverage["missing"])
    runs = "complete" if coverage["is_complete"] else "PARTIAL"
    return {
        "text": f"commit {commits} ({tree}) · scores sha256 {summary['scores_sha256'][:16]}",
        "runs": f"{runs}: {coverage['num_present']} of {planned} runs",
        "is_good": coverage["is_complete"] and not record["is_dirty"],
    }


def _gathered(sections: Iterable[Block]) -> list[Block]:
    """Return the pages, without those that only say why something is not shown; one page before the last says it all."""
    *pages, last = sections
    shown = [page for page in pages if any(block["kind"] != "note" for block in page["blocks"])]
    notes = [block for page in pages if page not in shown for block in page["blocks"]]
    return [*shown, *([{"title": "What is not shown", "blocks": notes}] if notes else []), last]


def _sections(
    summary: Summary, drawings: Mapping[str, Drawing], pictures: Pictures, building: Path
) -> Iterator[Block]:
    """Yield the pages after the first one's title, in the order of the report."""
    yield {
        "title": "",
        "blocks": [tables.answer_table(summary), tables.coverage(summary), {"kind": "caveats"}],
    }
    if summary["random_play"]:
        yield {"title": "Does it learn?", "blocks": list(_random_play_blocks(summary, drawings))}
    is_tall = len(published_rows(summary)) > 1
    needs_block = "No game with reference scores has a run of every variant."
    needs_two = "A comparison needs two variants with runs on the same games and seeds."
    if is_tall:
        yield _section("Aggregate metrics", drawings, {"F1": needs_block})
        yield {"title": "Differences", "blocks": list(_difference_blocks(summary, drawings, needs_two))}
    else:
        yield _section("Aggregate metrics", drawings, {"F1": needs_block, "F2": needs_two})
    if summary["published"]:
        blocks = [published_table(summary), *published_scores_tables(summary)]
        yield {"title": "Beside published agents", "blocks": blocks}
    yield _section("Performance profiles and ranks", drawings, {"F3": needs_block, "F18": needs_two})
    yield _pair("Probability of improvement between variants", drawings, ("F4", "F5"), needs_two)
    yield from _ablation_section(summary, drawings)
    not_evaluated = "No evaluation while training was recorded."
    curves = {"F6": "No step was evaluated in every run of a variant.", "F7": not_evaluated}
    scores = tables.game_tables(summary)
    if len(summary["study"]["games"]) <= FEW_GAMES:
        yield _section("Learning curves", drawings, curves)
        yield {"title": "Scores per game", "blocks": [*scores, *_figures(drawings, {"F8": ""})]}
    else:
        yield _section("Learning curves", drawings, {"F6": curves["F6"]})
        yield _section("Learning curves, game by game", drawings, {"F7": curves["F7"]})
        yield {"title": "Scores per game", "blocks": scores}
        yield _section("Every seed", drawings, {"F8": ""})
    frames = held_out_frames(pictures.films)
    reconstructions = picture_grid(summary, frames or pictures.frames, building, are_same=bool(frames))
    yield {"title": "Reconstructions", "blocks": [reconstructions]}
    yield from _quality_sections(summary, drawings, pictures.films, building)
    if "F11" in drawings:
        yield _section("Training losses", drawings, {"F11": ""})
    yield from _efficiency_section(summary, drawings)
    cost = [cost_table_of(summary)] if summary["cost"]["rows"] else []
    yield {
        "title": "What it cost",
        "blocks": [*_figures(drawings, {"F10": "No costs were recorded."}), *cost],
    }
    phases = [phases_table_of(summary)] if "F17" in drawings else []
    unwatched = "No training wrote down what its phases took."
    yield {
        "title": "What training spent its time on",
        "blocks": [*_figures(drawings, {"F17": unwatched}), *phases],
    }
    notes = {"kind": "notes", "title": "Method", "notes": _method(summary)}
    records = [
        *configuration_tables(summary),
        provenance_table(summary),
        *input_tables(summary),
    ]
    yield {"title": "Method and provenance", "blocks": [notes, *records]}


def _ablation_section(summary: Summary, drawings: Mapping[str, Drawing]) -> Iterator[Block]:
    """Yield the page on what each change does, where the variants say what they change."""
    if axes_of(summary) and summary["comparisons"]:
        unnormalised = {"F19": "No game of the comparison has reference scores."}
        blocks = [*_figures(drawings, unnormalised), ablation_table(summary)]
        yield {"title": "Ablation by axis", "blocks": blocks}
    if "F24" in drawings:
        blocks = [*_figures(drawings, {"F24": ""}), interaction_table(summary)]
        yield {"title": "Two changes at once", "blocks": blocks}


def _efficiency_section(summary: Summary, drawings: Mapping[str, Drawing]) -> Iterator[Block]:
    """Yield the page on scores against time, updates and steps."""
    reasons = {
        "F20": "No variant has both a normalised score and a training whose time is known.",
        "F21": "No training wrote down what its phases took up to an evaluation.",
    }
    targets = [targets_table(summary)] if summary.get("efficiency", {}).get("targets") else []
    yield {"title": "What a score takes", "blocks": [*_figures(drawings, reasons), *targets]}


def _method(summary: Summary) -> list[dict[str, str]]:
    """Return the method's notes, that on power after the one on the test."""
    notes = tables.method_notes(summary)
    place = next(index for index, note in enumerate(notes) if note["term"] == "Test") + 1
    added = [{"term": term, "text": text} for term, text in power_note(summary).items()]
    return [*notes[:place], *added, *notes[place:]]


def _random_play_blocks(summary: Summary, drawings: Mapping[str, Drawing]) -> Iterator[Block]:
    yield from _figures(drawings, {"F12": "No game has both random play and a trained run."})
    if tables.has_game_rows(summary):
        yield tables.random_play_table(summary)


def _difference_blocks(summary: Summary, drawings: Mapping[str, Drawing], needs_two: str) -> Iterator[Block]:
    yield from _figures(drawings, {"F2": needs_two})
    if summary["random_play"] and not tables.has_game_rows(summary):
        yield tables.random_play_table(summary)


def _section(title: str, drawings: Mapping[str, Drawing], wanted: Mapping[str, str]) -> Block:
    return {"title": title, "blocks": list(_figures(drawings, wanted))}


def _figures(drawings: Mapping[str, Drawing], wanted: Mapping[str, str]) -> Iterator[Block]:
    """Yield a block for each figure, or a note with the reason where there is none."""
    for identifier, reason in wanted.items():
        if identifier in drawings:
            yield _figure(drawings[identifier])
        else:
            yield {"kind": "note", "id": identifier, "text": reason}


def _figure(drawing: Drawing) -> Block:
    width, _ = drawing.figure.get_size_inches()
    return {
        "kind": "figure",
        "id": drawing.identifier,
        "title": drawing.title,
        "caption": drawing.caption,
        "path": f"/figures/{drawing.identifier}.svg",
        "width": round(float(width) * 25.4, 2),
    }


def _pair(title: str, drawings: Mapping[str, Drawing], identifiers: tuple[str, str], reason: str) -> Block:
    """Return a section with two figures side by side."""
    found = [_figure(drawings[identifier]) for identifier in identifiers if identifier in drawings]
    if not found:
        return {"title": title, "blocks": [{"kind": "note", "id": identifiers[0], "text": reason}]}
    return {"title": title, "blocks": [{"kind": "pair", "blocks": found}]}


def _quality_sections(
    summary: Summary, drawings: Mapping[str, Drawing], films: Mapping[Key, list[Film]], building: Path
) -> Iterator[Block]:
    """Yield the pages on the world models' quality, or one that says that it was not measured."""
    if not summary["world_model"]:
        reason = "World-model quality was not measured in this study."
        yield _section("World model", drawings, {"F13": reason})
        return
    dynamics = {identifier: "" for identifier in drawings if identifier.startswith("F14")}
    unpredicted = {"F14": "No held-out episode was long enough to predict anything."}
    ends = {"F25": ""} if "F25" in drawings else {}
    of_tokenizer, of_model, confused = quality_tables(summary)
    yield {
        "title": "World model 1: tokenizer",
        "blocks": [*_figures(drawings, {"F13": ""}), of_tokenizer, of_model],
    }
    yield _section("World model 2: prediction", drawings, dynamics or unpredicted)
    yield {
        "title": "World model 3: what it imagines",
        "blocks": [film_grid(summary, quality_of(summary), films, building)],
    }
    yield {
        "title": "World model 4: rewards and ends",
        "blocks": [*_figures(drawings, {"F16": ""}), *confused, *_figures(drawings, ends)],
    }
    few = "A correlation needs eight runs, in games with four or more each."
    yield _section("World model 5: promises and scores", drawings, {"F22": unpredicted["F14"], "F23": few})
