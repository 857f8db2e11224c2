"""What is not committed is kept with the results, so that it can be made again from the commit."""

import subprocess
from pathlib import Path

import pytest

from irisflow import checkout
from irisflow.checkout import git_state
from workspace import commit, git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a committed file of code, where results go to a folder that git ignores."""
    folder = tmp_path / "repository"
    for name, text in {"src/code.py": "one\n", ".gitignore": "/results/\n", "dvc.lock": "old\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    commit(folder, "Begin")
    monkeypatch.setattr(checkout, "ROOT", folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_clean_checkout_keeps_nothing(repository: Path) -> None:
    (repository / "dvc.lock").write_text("new\n")
    (repository / "notes.txt").write_text("no code\n")
    found = git_state(Path("results/diffs"))
    assert found["dirty"] is False and found["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert (found["diff_sha256"], found["diff_bytes"], found["diff_file"]) == (None, None, None)
    assert not (repository / "results").exists()


def test_the_commit_and_what_was_kept_are_the_code_that_ran(repository: Path, tmp_path: Path) -> None:
    (repository / "src/code.py").write_text("two\n")
    (repository / "src/new part.py").write_bytes(b"added\n")
    (repository / "src/table.bin").write_bytes(bytes(range(256)))
    (repository / "dvc.lock").write_text("new\n")
    git(repository, "init", "--quiet", "src/of_another")
    (repository / "src/of_another/code.py").write_text("another repository's\n")
    subprocess.run(["git", "config", "diff.noprefix", "true"], cwd=repository, check=True)
    found = git_state(Path("results/diffs"))
    assert found["dirty"] and found["diff_file"] == f"results/diffs/{found['diff_sha256']}.diff"
    kept = repository / found["diff_file"]
    assert kept.stat().st_size == found["diff_bytes"]
    rebuilt = tmp_path / "rebuilt"
    git(repository, "clone", "--quiet", str(repository), str(rebuilt))
    git(rebuilt, "apply", str(kept))
    for name in ("src/code.py", "src/new part.py", "src/table.bin"):
        assert (rebuilt / name).read_bytes() == (repository / name).read_bytes(), name
    assert (rebuilt / "dvc.lock").read_text() == "old\n"


def test_what_is_kept_is_written_once_and_again_if_it_is_damaged(repository: Path) -> None:
    (repository / "src/code.py").write_text("two\n")
    kept = Path(git_state(Path("results/diffs"))["diff_file"])
    whole, first = kept.read_bytes(), kept.stat().st_ino
    git_state(Path("results/diffs"))
    assert kept.stat().st_ino == first
    kept.write_bytes(whole[:-1])
    git_state(Path("results/diffs"))
    assert kept.read_bytes() == whole and len(list(kept.parent.iterdir())) == 1


def test_changes_that_are_too_large_are_named_and_not_kept(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkout, "LARGEST", 2**20)
    (repository / "src/table.txt").write_text("0123456789\n" * 200_000)
    found = git_state(Path("results/diffs"))
    assert found["dirty"] and found["diff_bytes"] > 2**20 and found["diff_file"] is None
    assert not (repository / "results").exists()
    told = capsys.readouterr().err
    assert "2 MB and are not kept (at most 1 MB)" in told and len(told.splitlines()) == 1


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert set(git_state(tmp_path / "diffs").values()) == {None}
    assert not (tmp_path / "diffs").exists()
