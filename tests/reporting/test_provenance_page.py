"""The report tells where its numbers come from: on the page, job by job in a file, and in the PDF's metadata."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from pypdf import PdfReader
from test_report import digests, pages_of, summary_of

from irisflow.reporting import provenance
from irisflow.reporting.document import build_report
from irisflow.reporting.style import DASH
from irisflow.statistics.provenance import STARTS, job_record, provenance_summary

CHANGES = b"diff --git a/<script> b/params\n+it & that\n"
SHA256 = hashlib.sha256(CHANGES).hexdigest()


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """The summary of 2 games x 2 seeds x 2 variants; trainings of seed 1 did not go through at once."""
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=2)
    return summary_of(replace(description, bootstrap_reps=20))


@pytest.fixture(scope="module")
def folder(summary: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    build_report(summary, {}, folder)
    return folder


def with_changes(summary: dict[str, Any], file: Path | None, **told: Any) -> dict[str, Any]:
    """Return a summary of jobs that ran with uncommitted changes."""
    diffs = {SHA256: {"num_bytes": len(CHANGES), "file": None if file is None else str(file), **told}}
    return {**summary, "provenance": {**summary["provenance"], "is_dirty": True, "diffs": diffs}}


def value_of(summary: dict[str, Any], what: str) -> Any:
    return dict(provenance.provenance_table(summary)["rows"])[what]


def test_the_file_has_every_job_with_its_environment(summary: dict[str, Any], folder: Path) -> None:
    told = json.loads((folder / "provenance.json").read_text())
    assert len(told["jobs"]) == 2 * 2 * 2 * 2
    for job in told["jobs"]:
        environment = told["environments"][job["environment"]]
        assert environment["commit"].startswith("0123") and environment["versions"]["torch"] == "2.13.0"
        assert job["config_sha256"] == "cd" * 32 and len(job["inputs"]) == 1
    died = {(job["stage"], job["seed"]): job["num_died"] for job in told["jobs"]}
    assert died == {
        ("train_agent", 0): 0,
        ("train_agent", 1): 1,
        ("evaluate", 0): None,
        ("evaluate", 1): None,
    }
    assert told["inputs"] == summary["provenance"]["inputs"] and told["study"]["baseline"] == "iris"
    assert told["configuration"]["training.part_000.setting"] == "0.0001"


def test_other_files_leave_the_jobs_to_it(folder: Path) -> None:
    told = json.loads((folder / "summary.json").read_text())["provenance"]
    assert not {"jobs", "environments"} & told.keys() and told["starts"]["num_counted"] == 8


def test_the_metadata_of_the_pdf_name_commit_and_file(folder: Path) -> None:
    keywords = PdfReader(folder / "summary.pdf").metadata["/Keywords"]
    sha256 = hashlib.sha256((folder / "provenance.json").read_bytes()).hexdigest()
    assert f"provenance.json sha256 {sha256}" in keywords and "commit 0123456789abcdef" in keywords


def test_jobs_in_another_order_give_the_same_bytes(
    summary: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    description = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=2)
    jobs = synthetic.jobs_of(description)[::-1]
    turned = {**summary, "provenance": provenance_summary(synthetic.provenance_of(description), jobs)}
    build_report(turned, {}, tmp_path)
    assert digests(tmp_path) == digests(folder)


def test_the_log_of_starts_names_who_was_started_again_and_how_the_starts_ended(
    summary: dict[str, Any], folder: Path
) -> None:
    table = provenance.starts_table(summary)
    assert table is not None
    *rows, others = table["rows"]
    assert len(rows) == 4 and others[0]["text"] == "4 other jobs, once each"
    for row in rows:
        assert row[0] == "train_agent" and row[3] == "1"
        assert row[5:] == ["3", "1", "1", {"text": "1", "style": "bad"}]
    (page,) = [text for text in pages_of(folder) if "T19 How often jobs were started" in text]
    assert page.count("train_agent") >= 4
    assert value_of(summary, "Starts of long jobs") == (
        "4 of 8 jobs started more than once: resumed 4 times, interrupted 4 times, died 4 times (T19)"
    )


def test_jobs_that_went_through_and_those_that_did_not_count_say_so(summary: dict[str, Any]) -> None:
    def told(starts: dict[str, Any] | None) -> dict[str, Any]:
        return {**summary, "provenance": {**summary["provenance"], "starts": starts}}

    none = {"num_counted": 8, "jobs": []}
    assert value_of(told(none), "Starts of long jobs") == "none of 8 jobs was started more than once"
    table = provenance.starts_table(told(none))
    assert table is not None and [row[0]["text"] for row in table["rows"]] == ["8 jobs, once each"]
    for unknown in (None, {"num_counted": 0, "jobs": []}):
        assert value_of(told(unknown), "Starts of long jobs") == "not recorded"
        assert provenance.starts_table(told(unknown)) is None


def test_an_older_job_that_counted_only_its_resumes_is_shown_with_them(summary: dict[str, Any]) -> None:
    cost = {**synthetic.costs_of(synthetic.study(games=("Pong",), num_variants=1, num_seeds=1))[0]}
    older = {key: value for key, value in cost.items() if key not in STARTS} | {"num_resumes": 2}
    source = next(
        iter(synthetic.provenance_of(synthetic.study(games=("Pong",), num_variants=1, num_seeds=1)))
    )
    jobs = [job_record("results/x", older, source, outputs={}, about={})]
    found = {**summary, "provenance": provenance_summary([source], jobs)}
    table = provenance.starts_table(found)
    assert table is not None and table["rows"][0][5:] == [DASH, "2", DASH, DASH]


def test_many_jobs_that_were_started_again_are_cut_and_counted(summary: dict[str, Any]) -> None:
    (job, *_) = summary["provenance"]["starts"]["jobs"]
    many = {"num_counted": 50, "jobs": [job] * 45}
    table = provenance.starts_table({**summary, "provenance": {**summary["provenance"], "starts": many}})
    assert table is not None and len(table["rows"]) == 42
    assert [row[0]["text"] for row in table["rows"][-2:]] == [
        "5 more, in provenance.json", "5 other jobs, once each"
    ]  # fmt: skip


def test_the_page_offers_changes_that_were_not_committed_as_text(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / f"{SHA256}.diff"
    file.write_bytes(CHANGES)
    dirty = with_changes(summary, file)
    assert value_of(dirty, "Working tree dirty")["text"] == f"yes: uncommitted changes; kept in {file}"
    build_report(dirty, {}, tmp_path / "report")
    page = (tmp_path / "report/summary.html").read_text(encoding="utf-8")
    (data,) = re.findall(rf'download="{SHA256}\.diff" href="data:text/plain;base64,([^"]+)"', page)
    assert base64.b64decode(data) == CHANGES


def test_changes_that_are_large_gone_or_other_ones_are_not_offered(
    summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{SHA256}.diff"
    dirty = with_changes(summary, file)
    assert provenance.shown_diffs(dirty) == {}, "gone"
    file.write_bytes(CHANGES + b"more")
    assert provenance.shown_diffs(dirty) == {}, "another content"
    file.write_bytes(CHANGES)
    assert provenance.shown_diffs(dirty) == {SHA256: CHANGES}
    monkeypatch.setattr(provenance, "MOST_SHOWN_BYTES", len(CHANGES) - 1)
    assert provenance.shown_diffs(dirty) == {}, "large"
    unkept = with_changes(summary, None, num_bytes=23_400_000)
    told = value_of(unkept, "Working tree dirty")["text"]
    assert told == f"yes: uncommitted changes; 23.4 MB not kept, sha256 {SHA256}"
    assert provenance.shown_diffs(unkept) == {}


def test_provenance_tells_cartridges_and_how_torch_computed(summary: dict[str, Any]) -> None:
    computing = {"device": ["cuda:0"], "gpu": ["H100"], "driver": ["580.1"], "cudnn_allow_tf32": ["true"]}
    more = {"cartridges": {"Pong": ["60e0"]}, "computing": computing, "locks": ["ef" * 32]}
    told = {**summary, "provenance": {**summary["provenance"], **more}}
    assert value_of(told, "Cartridges, md5") == "Pong 60e0"
    assert value_of(told, "Computed with") == "device cuda:0; gpu H100; driver 580.1"
    assert value_of(told, "Flags of torch") == "cudnn allow tf32 true"
    assert value_of(told, "Locked versions, sha256") == "ef" * 32
    assert value_of(summary, "Cartridges, md5") == value_of(summary, "Flags of torch") == DASH
