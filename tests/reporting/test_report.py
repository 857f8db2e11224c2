"""The report as a file: pages, texts, bytes, and what happens when something is wrong."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from pypdf import PdfReader
from safetensors.numpy import save_file

from irisflow.errors import DataError
from irisflow.reporting.document import build_report
from irisflow.reporting.pictures import Reconstructions, picture, psnr
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.summary import summarise
from irisflow.statistics.world_model import table

HEADINGS = (
    "Does it learn?",
    "Aggregate metrics",
    "Performance profiles",
    "Probability of improvement between variants",
    "Learning curves",
    "Scores per game",
    "Reconstructions",
    "World model 1: tokenizer",
    "World model 2: prediction",
    "World model 3: what it imagines",
    "World model 4: rewards and ends",
    "Training losses",
    "What it cost",
    "What training spent its time on",
    "Method and provenance",
)


def summary_of(
    description: StudyDescription,
    rows: list[Any] | None = None,
    measured: list[Any] | None = None,
    timings: dict[Any, Any] | None = None,
) -> dict[str, Any]:
    """Return the summary of a synthetic study; `measured` adds the world models' quality and random play."""
    rows = synthetic.episodes_of(description, num_evaluations=3) if rows is None else rows
    return summarise(
        description,
        rows,
        rows,
        synthetic.costs_of(description),
        synthetic.provenance_of(description),
        metrics=synthetic.metrics_of(description),
        timings=synthetic.timings_of(description) if timings is None else timings,
        random_play=synthetic.random_play_of(description) if measured else (),
        world_model=table(measured or ()),
        confusions=synthetic.confusions_of(description),
        jobs=synthetic.jobs_of(description),
    )


@cache
def pages_of(folder: Path) -> list[str]:
    """Return the text of every page, without the breaks that long names may take."""
    reader = PdfReader(folder / "summary.pdf")
    return [page.extract_text().replace("\u200b", "") for page in reader.pages]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a report."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[StudyDescription, dict[str, dict[Any, Path]], Path]:
    """Return a study of 2 games x 2 seeds x 2 variants, its pictures, and its built report."""
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=2)
    frames = tmp_path_factory.mktemp("frames")
    folder = tmp_path_factory.mktemp("report")
    pictures = {
        "reconstructions": synthetic.write_reconstructions(description, frames),
        "films": synthetic.write_films(description, frames),
    }
    measured = synthetic.world_model_of(description)
    build_report(summary_of(description, measured=measured), output_dir=folder, **pictures)
    return description, pictures, folder


def test_every_section_comes_in_its_order_on_pages_with_number_stamp_and_study(small: Any) -> None:
    pages = pages_of(small[2])
    places = [next(i for i, text in enumerate(pages) if heading in text) for heading in HEADINGS]
    assert places == sorted(places) and places[0] == 1
    for number, text in enumerate(pages, start=1):
        assert f"page {number} / {len(pages)}" in text
        assert "QUICK: tiny budget, not evidence about Atari 100k" in text and "synthetic-2x2x2" in text


def test_eleven_variants_stay_on_the_first_page_and_no_page_is_empty(tmp_path: Path) -> None:
    description = synthetic.study(games=("Breakout",), num_variants=11, num_seeds=1)
    measured = synthetic.world_model_of(description)
    build_report({**summary_of(description, measured=measured), "random_play": {}}, {}, tmp_path)
    pages = pages_of(tmp_path)
    first = pages[0]
    assert all(f"quantizer_number_{i}" in first for i in range(6)) and "1/1" in first
    assert "There are too few runs to separate any of 10 variants from iris" in first
    assert "complete: 11 of 11 runs" in first and "Aggregate metrics" in pages[1]
    assert not any("Does it learn?" in text for text in pages)
    assert [len([text for text in pages if f"F14{letter}" in text]) for letter in "abc"] == [1, 1, 1]
    for heading, below in (("World model 2: prediction", "F14a"), ("World model 1: tokenizer", "T8")):
        assert below in next(text for text in pages if heading in text), (
            "the heading stands alone on its page"
        )


def test_the_first_page_answers_and_warns(small: Any) -> None:
    text = pages_of(small[2])[0]
    for words in ("There are too few runs to separate fsq from iris", "Before you use these numbers", "2/2"):
        assert words in text
    assert "iris beats random play" in text
    assert "complete: 8 of 8 runs" in text and "0123456789ab" in text


def test_every_figure_and_table_is_named_and_has_its_files(small: Any) -> None:
    text = "\n".join(pages_of(small[2]))
    for identifier in [f"F{number}" for number in range(1, 18)] + [f"T{number}" for number in range(1, 11)]:
        assert re.search(rf"\b{identifier}[ab]?\b", text), identifier
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, "14a", "14b", 16, 17):
        for ending in ("svg", "png", "csv"):
            assert (small[2] / "figures" / f"F{number}.{ending}").stat().st_size > 50


def test_a_figures_rows_are_the_summarys_numbers(small: Any) -> None:
    summary = json.loads((small[2] / "summary.json").read_text())
    with (small[2] / "figures" / "F1.csv").open() as file:
        rows = {(row["metric"], row["variant"]): row for row in csv.DictReader(file)}
    for metric, record in summary["aggregates"]["fsq"].items():
        assert float(rows[metric, "fsq"]["value"]) == record["value"]
        assert float(rows[metric, "fsq"]["high"]) == record["high"]


def test_a_second_build_from_shuffled_rows_elsewhere_gives_the_same_bytes(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description, pictures, folder = small
    rows = synthetic.episodes_of(description, num_evaluations=3)
    measured = synthetic.world_model_of(description)
    shuffle = np.random.default_rng(1).permutation
    shuffled = [rows[index] for index in shuffle(len(rows))]
    measured = [measured[index] for index in shuffle(len(measured))]
    monkeypatch.chdir(tmp_path)
    turned = {kind: dict(reversed(paths.items())) for kind, paths in pictures.items()}
    build_report(summary_of(description, shuffled, measured), output_dir=Path("again"), **turned)
    assert digests(Path("again")) == digests(folder)


def test_one_game_one_seed_one_variant_renders_and_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    description = synthetic.study(games=("Catch",), num_variants=1, num_seeds=1, scale="smoke")
    build_report(summary_of(description), {}, tmp_path)
    pages = pages_of(tmp_path)
    assert all("SMOKE: not evidence" in text for text in pages)
    assert "there is nothing to compare" in pages[0]
    assert "A comparison needs two variants" in "\n".join(pages)
    for words in (
        "No reconstructions were saved",
        "World-model quality was not measured",
        "Random play was not measured",
    ):
        assert words in "\n".join(pages)


def test_a_missing_run_is_shown_as_missing_not_as_zero(tmp_path: Path) -> None:
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=1)
    rows = [row for row in synthetic.episodes_of(description) if (row.variant, row.game) != ("fsq", "Pong")]
    build_report(summary_of(description, rows), {}, tmp_path)
    pages = pages_of(tmp_path)
    assert "0/1" in pages[0] and "PARTIAL: 3 of 4 runs" in pages[0] and "fsq/Pong/0" in pages[0]
    assert "missing" in next(text for text in pages if "Scores per game" in text)


def test_strange_characters_in_names_are_printed_not_read(tmp_path: Path) -> None:
    strange = "a_b,<script>&%$x$ #*`@"
    description = synthetic.study(games=("Pong",), num_variants=1, num_seeds=2)
    description = replace(
        description,
        title="Study *bold* $x$ #panic()",
        variants=(*description.variants, VariantDescription(strange, "Is \\ or ] fine?")),
    )
    build_report(summary_of(description), {}, tmp_path)
    text = "\n".join(pages_of(tmp_path))
    for words in (strange, "Study *bold* $x$ #panic()", "Is \\ or ] fine?"):
        assert words in text


def phases_page(folder: Path) -> str:
    """Return the text of the pages from "What training spent its time on", or why there is none, to the last."""
    pages = pages_of(folder)
    heads = ("What training spent its time on", "What is not shown")
    first = next(i for head in heads for i, text in enumerate(pages) if head in text)
    return "\n".join(pages[first:-1])


def test_rates_and_utilisation_of_phases_are_printed_and_what_was_not_measured_is_a_dash(small: Any) -> None:
    rows = json.loads((small[2] / "summary.json").read_text())["cost"]["phases"]
    found = {(row["variant"], row["phase"]): row for row in rows}
    text = " ".join(phases_page(small[2]).split())
    for variant in ("iris", "fsq"):
        row = found[variant, "world_model"]
        rates = f"{row['updates_per_s']:#.3g} {row['frames_per_s']:,.0f} frames"
        used = f"{100 * row['cpu_utilisation']:.0f} % \N{EN DASH} {row['peak_rss_mb']:,.0f} MB \N{EN DASH}"
        assert f"{rates} {used}" in text
    finding = r"actor critic took most: (\d+) % of the time; (\d+) % lies outside of phases"
    shares = re.search(finding, text)
    assert shares and 40 < int(shares[1]) < 60 and 10 <= int(shares[2]) < 20


def test_the_picture_of_phases_has_its_numbers_beside_it_and_they_add_up(small: Any) -> None:
    cost = json.loads((small[2] / "summary.json").read_text())["cost"]
    trained = {row["variant"]: row["wall_s"] for row in cost["rows"] if row["stage"] == "train_agent"}
    with (small[2] / "figures" / "F17.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows[:7]] == [*synthetic.PHASE_SECONDS, "other"]
    for variant, wall_s in trained.items():
        mine = [row for row in rows if row["variant"] == variant]
        assert sum(float(row["seconds"]) for row in mine) == pytest.approx(wall_s)
        assert sum(float(row["share"]) for row in mine) == pytest.approx(1)


def test_older_runs_with_seconds_only_and_summaries_without_phases_still_make_a_report(
    tmp_path: Path,
) -> None:
    description = synthetic.study(games=("Pong",), num_variants=1, num_seeds=1)
    older = {
        run: [
            {key: value for key, value in row.items() if key.startswith(("epoch", "seconds"))} for row in rows
        ]
        for run, rows in synthetic.timings_of(description).items()
    }
    build_report(summary_of(description, timings=older), {}, tmp_path / "older")
    text = phases_page(tmp_path / "older")
    assert "T10" in text and " frames" not in text and " MB" not in text and "\N{EN DASH}" in text
    summary = summary_of(description)
    del summary["cost"]["phases"]
    build_report(summary, {}, tmp_path / "oldest")
    assert "No training wrote down what its phases took" in phases_page(tmp_path / "oldest")


def test_damaged_reconstructions_are_refused_and_the_old_report_stays(small: Any, tmp_path: Path) -> None:
    summary = summary_of(small[0])
    build_report(summary, {}, tmp_path / "report")
    before = digests(tmp_path / "report")
    path = tmp_path / "reconstructions.safetensors"
    frames = np.zeros((2, 3, 64, 64), np.uint8)
    for tensors in ({"originals": frames}, {"originals": frames, "reconstructions": frames / 255}):
        save_file(tensors, path)
        with pytest.raises(DataError, match="tensor reconstructions: found"):
            build_report(summary, {("iris", "Pong", 0): path}, tmp_path / "report")
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        build_report(summary, {("iris", "Pong", 0): path}, tmp_path / "report")
    assert digests(tmp_path / "report") == before


def test_a_picture_magnifies_without_smoothing_and_psnr_is_by_the_book() -> None:
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 200, (3, 3, 8, 8)).astype(np.uint8)
    frames = Reconstructions(originals, originals + np.uint8(10))
    assert psnr(frames) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(Reconstructions(originals, originals)) == pytest.approx(60)
    pixels = np.asarray(picture(frames, [0, 2], magnification=4))
    assert pixels.shape == (3 * 32 + 2 * 8, 2 * 32 + 8, 3)
    assert (pixels[:32:4, :32:4] == originals[0].transpose(1, 2, 0)).all()
    assert (pixels[3:32:4, 3:32:4] == originals[0].transpose(1, 2, 0)).all()
    assert (pixels[80:112, :32] == 40).all()


def test_neither_statistics_nor_report_load_torch() -> None:
    code = (
        "import sys, irisflow.reporting.document, irisflow.statistics.summary; print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_figures_keep_the_studys_order_that_json_forgets(small: Any, tmp_path: Path) -> None:
    summary = json.loads(json.dumps(summary_of(small[0]), sort_keys=True))
    assert list(summary["aggregates"]) == ["fsq", "iris"]
    build_report(summary, {}, tmp_path)
    for name, first in (("F1", "iris"), ("F6", "iris")):
        with (tmp_path / "figures" / f"{name}.csv").open() as file:
            assert next(csv.DictReader(file))["variant"] == first
    with (tmp_path / "figures" / "F8.csv").open() as file:
        assert next(csv.DictReader(file))["game"] == "Pong"


def test_many_variants_have_a_row_each_in_the_scores_and_one_film_each(tmp_path: Path) -> None:
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=6, num_seeds=1)
    films = synthetic.write_films(description, tmp_path)
    measured = synthetic.world_model_of(description)
    build_report(summary_of(description, measured=measured), {}, tmp_path / "report", films=films)
    text = " ".join(pages_of(tmp_path / "report"))
    assert "Scores per game, continued" not in text and text.count("T3 ") == 1
    assert len(list((tmp_path / "report" / "figures").glob("F15-*.png"))) == 2 * 6
