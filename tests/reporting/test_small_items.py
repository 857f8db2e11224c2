"""Heat and run counts in tables, frames beside steps, F1 of rewards, published scores by game, the appendix."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from test_report import pages_of, summary_of

from irisflow.reporting import appendix, published, tables
from irisflow.reporting.document import build_report
from irisflow.reporting.figures import draw_iqm_curve
from irisflow.reporting.quality_tables import quality_tables


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """The summary of 2 games x 2 seeds x 2 variants, one run of which is missing."""
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=2)
    description = replace(description, bootstrap_reps=20)
    rows = [
        row
        for row in synthetic.episodes_of(description, num_evaluations=2)
        if (row.variant, row.game, row.seed) != ("fsq", "Pong", 1)
    ]
    return summary_of(description, rows, measured=synthetic.world_model_of(description))


@pytest.fixture(scope="module")
def folder(summary: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build_report(summary, {}, folder)
    return folder


def test_a_score_has_a_ground_by_its_height_and_tells_of_how_few_runs_it_is(summary: dict[str, Any]) -> None:
    (table,) = tables.game_tables(summary)
    pong = next(row for row in table["rows"] if row[0] == "Pong")
    record = summary["games"]["Pong"]["variants"]
    assert pong[5] == {
        "text": f"{record['iris']['normalised']:.2f}",
        "heat": round(100 * min(1.0, record["iris"]["normalised"])),
    }
    assert "(n = 1)" in pong[6] and "(n = " not in pong[4]


@pytest.mark.parametrize(("value", "heat"), [(-3.0, -100), (-0.25, -25), (0.0, 0), (0.5, 50), (7.0, 100)])
def test_the_ground_ends_at_one_and_below_zero_is_of_another_colour(
    value: float, heat: int, summary: dict[str, Any]
) -> None:
    changed = deepcopy({**summary, "games": {"Pong": summary["games"]["Pong"]}})
    changed["games"]["Pong"]["variants"]["iris"]["normalised"] = value
    assert tables.game_tables(changed)[0]["rows"][0][5]["heat"] == heat


def test_the_first_table_tells_the_aggregates_over_every_run_that_is_there(summary: dict[str, Any]) -> None:
    caption = tables.answer_table(summary)["caption"]
    known = summary["all_available"]["fsq"]
    assert known["num_runs"] == 3 and f"fsq {known['iqm']:.3f} (3)" in caption
    assert "every run" not in tables.answer_table({**summary, "all_available": {}})["caption"]


def test_both_files_show_the_ground(folder: Path) -> None:
    page = (folder / "summary.html").read_text(encoding="utf-8")
    assert "background: color-mix(in srgb, var(--warmth)" in page


def test_frames_stand_beside_steps_where_all_games_have_as_many(summary: dict[str, Any]) -> None:
    def labels(frames_per_step: float | None) -> list[str]:
        changed = {**summary, "curves": {**summary["curves"], "frames_per_step": frames_per_step}}
        (axes,) = draw_iqm_curve(changed).figure.axes
        return [child.get_xlabel() for child in axes.child_axes]

    assert summary["curves"]["frames_per_step"] == 4
    assert labels(4.0) == ["frames of the emulator, 4 a step"]
    assert labels(1.0) == labels(None) == []


def test_the_f1_of_any_reward_is_by_the_book(summary: dict[str, Any]) -> None:
    confusion = quality_tables(summary)[2][0]
    (negative, _, positive) = ([30, 15, 5], [3, 1880, 7], [2, 18, 40])
    hits = negative[0] + negative[2] + positive[0] + positive[2]
    misses, false_alarms = negative[1] + positive[1], 3 + 7
    assert confusion["columns"][-1]["title"] == "Any reward:\nF1"
    assert confusion["rows"][0][-1] == f"{2 * hits / (2 * hits + misses + false_alarms):.2f}"


def test_published_scores_are_those_of_the_papers_and_an_older_summary_has_none(
    summary: dict[str, Any],
) -> None:
    (table,) = published.published_scores_tables(summary)
    titles = [column["title"] for column in table["columns"]]
    breakout = next(
        row
        for row in (dict(zip(titles, row, strict=True)) for row in table["rows"])
        if row["Game"] == "Breakout"
    )
    assert breakout["Random play"] == "1.70"
    assert breakout["Human play"] == "30.5" and breakout["IRIS"] == "83.7"
    older = [{key: value for key, value in record.items() if key != "raw"} for record in summary["published"]]
    assert published.published_scores_tables({**summary, "published": older}) == []


def test_the_appendix_has_every_setting_and_the_words(summary: dict[str, Any], folder: Path) -> None:
    pages = "\n".join(pages_of(folder))
    assert all(key in pages for key, _ in summary["study"]["configuration"])
    assert all(word in pages for word in appendix.WORDS) and "T16 Every setting of iris" in pages
    changed = {
        **summary,
        "study": {**summary["study"], "configuration": (("a", "x" * 99), ("b", "2"))},
    }
    table = appendix.configuration_table(changed)
    assert len(table["rows"]) == 1 and table["rows"][0][1].endswith("…")
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    without = {**summary, "study": {**summary["study"], "configuration": ()}}
    assert [page["title"] for page in appendix.appendix(without)] == ["Appendix: starts of jobs, words"]


@pytest.mark.parametrize("num_games", [1, 2, 8])
def test_with_few_games_the_first_interval_resamples_them_too(num_games: int) -> None:
    games = ("Pong", "Breakout", "Alien", "Amidar", "Assault", "Asterix", "Boxing", "Krull")[:num_games]
    description = synthetic.study(games=games, num_variants=2, num_seeds=3)
    found = summary_of(replace(description, bootstrap_reps=50), synthetic.episodes_of(description))
    iqm, table = found["aggregates"]["iris"]["iqm"], tables.answer_table(found)
    ends = ("games_low", "games_high") if num_games == 2 else ("low", "high")
    assert table["rows"][0][3]["text"].endswith(f"[{iqm[ends[0]]:.3f}, {iqm[ends[1]]:.3f}]")
    assert ("games too" in table["columns"][3]["title"]) == (num_games == 2)
