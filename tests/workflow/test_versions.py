"""DVC versions what Snakemake made; a fresh clone gets it back, and nobody has to believe it."""

import json
from pathlib import Path

import pytest

from workspace import REPORT, commit, copy_workspace, git, irisflow, planned, run, snakemake

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def versioned(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose results `dvc repro` has taken in and pushed to a remote, with `dvc.lock` in git."""
    folder = copy_workspace(smoke_run, tmp_path_factory.mktemp("versioned"))
    remote = tmp_path_factory.mktemp("remote")
    run(folder, "dvc", "init", "--force", "--quiet", check=True)
    run(folder, "dvc", "remote", "add", "--default", "shelf", str(remote), check=True)
    run(folder, "dvc", "repro", check=True)
    run(folder, "dvc", "push", "--quiet", check=True)
    commit(folder, "Lock the results")
    return folder


def clone(source: Path, folder: Path) -> Path:
    """Return a fresh clone of a workspace."""
    git(source, "clone", "--quiet", str(source), str(folder))
    return folder


def test_after_repro_nothing_is_left_to_do(versioned: Path) -> None:
    assert "up to date" in run(versioned, "dvc", "status", check=True).stdout
    assert git(versioned, "status", "--porcelain") == ""


def test_a_fresh_clone_pulls_everything_and_plans_nothing(versioned: Path, tmp_path: Path) -> None:
    folder = clone(versioned, tmp_path / "clone")
    assert not (folder / "results").exists()
    irisflow(folder, "pull", check=True)
    assert (folder / REPORT).read_bytes() == (versioned / REPORT).read_bytes()
    assert planned(folder) == {}
    scores = folder / "results/smoke/scores/iris/Pong/seed-0"
    (scores / "scores.csv").write_text("tampered")
    result = irisflow(folder, "pull")
    assert result.returncode == 3, "a differing file is neither overwritten nor believed"
    assert (scores / "scores.csv").read_text() == "tampered"
    assert "irisflow: " in result.stderr and "Traceback" not in result.stderr


def test_a_new_title_reaches_the_report_without_new_statistics(versioned: Path, tmp_path: Path) -> None:
    folder = copy_workspace(versioned, tmp_path / "changed")
    summary = folder / "results/smoke/studies/smoke/summary.json"
    before = summary.stat().st_mtime_ns
    study = folder / "params/study/smoke.yaml"
    study.write_text(study.read_text().replace("Smoke test", "Smoking test"))
    snakemake(folder, REPORT, "--cores", "2", check=True)
    assert "Smoking test" in (folder / "reports/summary.json").read_text()
    assert summary.stat().st_mtime_ns == before
    assert "report" in run(folder, "dvc", "status").stdout, "DVC sees that its versions are older"


def test_metrics_and_figures_of_two_commits_stand_beside_each_other(versioned: Path, tmp_path: Path) -> None:
    folder = copy_workspace(versioned, tmp_path / "changed")
    path = folder / "reports/metrics.json"
    metrics = json.loads(path.read_text())
    before = metrics["variants"]["iris"]["mean"]
    metrics["variants"]["iris"]["mean"] = before + 0.25
    path.unlink()
    path.write_text(json.dumps(metrics))
    found = json.loads(run(folder, "dvc", "metrics", "diff", "--json", check=True).stdout)
    assert found["reports/metrics.json"]["variants.iris.mean"]["diff"] == pytest.approx(0.25)
    run(folder, "dvc", "plots", "diff", "HEAD", "--out", "plots", check=True)
    pictures = [picture.name for picture in (folder / "plots/static").iterdir()]
    assert any("F1.png" in name and "workspace" in name for name in pictures)
    assert any("F1.png" in name and "HEAD" in name for name in pictures)
