"""The report as a page: whole in itself, the PDF's numbers, and what a reader can do in a browser."""

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report import summary_of

from irisflow.reporting.document import build_report

CHROMIUM = shutil.which("chromium")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NUM_VARIANTS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study of 2 games x 2 seeds x 3 variants."""
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=NUM_VARIANTS, num_seeds=2)
    frames, folder = tmp_path_factory.mktemp("frames"), tmp_path_factory.mktemp("page") / "reports"
    build_report(
        summary_of(description, measured=synthetic.world_model_of(description)),
        synthetic.write_reconstructions(description, frames),
        folder,
        films=synthetic.write_films(description, frames),
        folders={
            ("iris", game, seed): run_folder("iris", game, seed)
            for game in description.games
            for seed in description.seeds
        },
    )
    return folder


def run_folder(variant: str, game: str, seed: int) -> str:
    """Return where a run lies, as seen from the report; a name of it is strange."""
    return f"../results/a & b? #1/{variant}/{game}/seed-{seed}"


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "summary.html").read_text(encoding="utf-8")


def test_the_page_asks_nothing_of_any_network(text: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"#]{1,40})', text)
    assert len(addresses) > 20 and all(address.startswith(("data:", "../results/")) for address in addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)", text)


def test_it_has_the_numbers_of_the_summary_and_the_rows_of_every_figure(folder: Path, text: str) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for name, metrics in summary["aggregates"].items():
        shown = f"{metrics['iqm']['value']:.3f}".replace("-", "\N{MINUS SIGN}")
        assert name in text and shown in text
    figures = sorted(path.stem for path in (folder / "figures").glob("*.csv"))
    assert len(figures) > 10
    for identifier in figures:
        assert text.count(f'<figure class="block" id="{identifier}"') == 1
        assert f'download="{identifier}.csv"' in text


def test_every_table_has_its_rows_as_csv(text: str, folder: Path) -> None:
    links = dict(re.findall(r'download="(T\d+)\.csv" href="data:text/csv;base64,([^"]+)"', text))
    assert set(links) >= {path.stem for path in (folder / "tables").glob("T*.tex") if "-" not in path.stem}
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(links["T1"]).decode())))
    assert [row["Variant"] for row in rows] == ["iris", "fsq", "parallel"]
    assert all("\n" not in title for title in rows[0])


def test_no_name_in_a_figure_is_used_by_another(text: str) -> None:
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))


def test_strange_names_are_only_text(tmp_path: Path) -> None:
    description = synthetic.study(games=("Pong",), num_variants=2, num_seeds=2)
    summary = summary_of(description)
    summary["study"]["title"] = "<script>alert(1)</script> a_b & $x$ {{ 7 * 7 }}"
    build_report(summary, {}, tmp_path)
    text = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert (
        "<script>alert" not in text
        and "&lt;script&gt;alert(1)&lt;/script&gt; a_b &amp; $x$ {{ 7 * 7 }}" in text
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium; `apt-get install chromium` brings it")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[tuple[Any, list[str]]]:
    """The page in a browser, and what its console said."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{folder / 'summary.html'}")
    yield page, said
    page.close()


def test_a_browser_shows_it_without_a_complaint_and_every_picture_loads(opened: Any) -> None:
    page, said = opened
    decoded = "async image => { image.loading = 'eager'; await image.decode(); return image.naturalWidth; }"
    widths = page.eval_on_selector_all("img", f"images => Promise.all(images.map({decoded}))")
    assert len(widths) > 20 and min(widths) > 0
    assert said == []
    assert page.locator("svg[role=img]").count() > 10


def test_a_variant_that_is_switched_off_is_seen_nowhere_and_comes_back(opened: Any) -> None:
    page, _ = opened
    row, point = page.locator("tbody tr.variant-1").first, page.locator("#F1 circle.variant-1").first
    assert row.is_visible() and point.is_visible()
    page.locator(".toggle").nth(1).uncheck()
    assert not row.is_visible() and not point.is_visible()
    assert page.locator("tbody tr.variant-0").first.is_visible()
    page.locator(".toggle").nth(1).check()
    assert row.is_visible() and point.is_visible()


def test_a_table_is_sorted_by_a_column_up_and_down(opened: Any) -> None:
    page, _ = opened
    table = page.locator("table.sortable").first
    head = table.locator("thead th", has_text="Mean").last

    def column() -> list[float]:
        place = head.evaluate("head => head.cellIndex")
        cells = table.locator(f"tbody tr td:nth-child({place + 1})").all_inner_texts()
        return [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in cells]

    assert len(column()) == NUM_VARIANTS
    head.locator("button").click()
    assert column() == sorted(column()) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert column() == sorted(column(), reverse=True) and head.get_attribute("aria-sort") == "descending"


def test_a_point_tells_its_value(opened: Any, folder: Path) -> None:
    page, _ = opened
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    told = page.locator("#F1 .points circle.variant-0 title").first.text_content()
    name = summary["study"]["baseline"]
    assert told == f"{name}: {summary['aggregates'][name]['iqm']['value']:.4g}"
    circle, marker = (
        page.locator("#F1 .points circle.variant-0").first,
        page.locator("#F1 svg g.variant-0").all(),
    )
    box = circle.bounding_box()
    inside = [
        other
        for group in marker
        if (other := group.bounding_box())
        and abs(other["x"] + other["width"] / 2 - box["x"] - box["width"] / 2) < 3
        and abs(other["y"] + other["height"] / 2 - box["y"] - box["height"] / 2) < 3
    ]
    assert inside, "it lies on the point that is drawn"


def test_light_and_dark_differ_and_a_phone_needs_no_sideways_scrolling(opened: Any) -> None:
    page, _ = opened
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate(paper) != light
    page.emulate_media(color_scheme="dark")
    page.locator("#theme").click()
    assert page.evaluate(paper) == light, "the reader's choice goes before the system's"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_moving_picture_shows_truth_and_imagination(opened: Any) -> None:
    page, _ = opened
    films = page.locator(".films figure")
    assert films.count() == 2 * NUM_VARIANTS
    film = page.locator(".films .moving").first
    assert film.get_attribute("src").startswith("data:image/png;base64,")
    assert "frames that followed" in film.get_attribute("alt")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_films_move_unless_the_reader_wants_stillness_and_a_button_stops_or_plays_them(
    browser: Any, folder: Path, motion: str
) -> None:
    page = browser.new_page(reduced_motion=motion)
    page.goto(f"file://{folder / 'summary.html'}")
    moving, still, button = (
        page.locator(found).first for found in (".films .moving", ".films .still", "#films")
    )
    is_moving = motion == "no-preference"
    for word in ("Stop", "Play") if is_moving else ("Play", "Stop"):
        assert (moving.is_visible(), still.is_visible()) == (is_moving, not is_moving)
        assert button.inner_text() == f"{word} the films"
        button.press("Enter")
        is_moving = not is_moving
    page.close()


def test_a_screen_reader_finds_headings_in_order_and_each_tables_name_and_rows(opened: Any) -> None:
    page, _ = opened
    levels = page.eval_on_selector_all(
        "h1, h2, h3, h4", "found => found.map(head => Number(head.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.locator("table").count() == page.locator("table > caption").count() > 10
    named = "rows => rows.map(row => row.querySelectorAll('th[scope=row]').length)"
    assert set(page.eval_on_selector_all("tbody tr", named)) == {1}


def test_the_contents_lead_to_every_section(opened: Any) -> None:
    page, _ = opened
    page.locator(".contents summary").click()
    for link in page.locator(".contents a").all():
        assert page.locator(f"{link.get_attribute('href')} > h2").inner_text() == link.inner_text()


def test_a_dot_leads_to_its_runs_folder_and_one_whose_folder_is_not_known_does_not(
    opened: Any, folder: Path
) -> None:
    page, _ = opened
    links = page.locator("#F8 .points a")
    assert links.count() == 4 and page.locator("#F8 .points > circle.variant-1").count() == 4
    figures = "links => [...new Set(links.map(link => link.closest('figure').id))]"
    assert page.eval_on_selector_all(".points a", figures) == ["F12", "F8", "F23"], (
        "elsewhere a point is no run"
    )
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    score = summary["games"]["Pong"]["variants"]["iris"]["seeds"]["0"]
    shown = f"{score:.2f}" if abs(score) < 10 else f"{score:.1f}"
    told = f"iris, Pong, seed 0: {shown}".replace("-", "\N{MINUS SIGN}")
    assert links.first.locator("title").text_content() == told
    target = folder / run_folder("iris", "Pong", 0)
    target.mkdir(parents=True, exist_ok=True)
    (target / "metrics.jsonl").write_text("{}")
    links.first.focus()
    assert page.evaluate("document.activeElement.tagName") == "a", "the keyboard reaches it"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "metrics.jsonl" in page.content()
    assert page.url == target.resolve().as_uri() + "/"


def test_links_are_the_same_from_any_checkout(folder: Path, tmp_path: Path) -> None:
    description = synthetic.study(games=("Pong",), num_variants=1, num_seeds=2)
    summary, folders = summary_of(description), {("iris", "Pong", 0): run_folder("iris", "Pong", 0)}
    for name in ("here", "elsewhere/deeper"):
        build_report(summary, {}, tmp_path / name, folders=folders)
    pages = [(tmp_path / name / "summary.html").read_bytes() for name in ("here", "elsewhere/deeper")]
    assert pages[0] == pages[1] and b'href="../results/a%20%26%20b%3F%20%231/iris/Pong/seed-0/"' in pages[0]
    build_report(summary, {}, tmp_path / "none")
    assert b"../results/" not in (tmp_path / "none" / "summary.html").read_bytes()
