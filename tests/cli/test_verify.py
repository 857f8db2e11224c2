"""`irisflow verify`: damage in any file that a report stands on is named, whatever its date and size say."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from published import publish_study

from irisflow import cli
from irisflow import paths as places
from irisflow.storage import MANIFEST, publish, read_manifest
from irisflow.study import Study
from irisflow.verify import Inspection, inspect_paths, inspect_study
from workspace import irisflow, planned, run

AGENT = Path("results/smoke/agents/iris/Catch/seed-0")
TOKENIZER = Path("results/smoke/tokenizers/iris/own/Catch/seed-0")
SCORES = Path("results/smoke/scores/iris/Catch/seed-0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A folder with a whole study in it, and the study. Tests copy it."""
    folder, before = tmp_path_factory.mktemp("published"), Path.cwd()
    os.chdir(folder)
    try:
        return folder, publish_study()
    finally:
        os.chdir(before)


@pytest.fixture
def study(made: tuple[Path, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study, with the working directory in a copy of its files."""
    shutil.copytree(made[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return made[1]


def flip(place: float) -> Callable[[Path], None]:
    """Return a function that flips one bit at a share of a file's length."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(place * (len(data) - 1))] ^= 1 << (len(data) % 8)
        path.write_bytes(data)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def flip_somewhere(path: Path) -> None:
    """Flip a bit at a place that differs from file to file, the first and the last byte among them."""
    flip(min(1.0, zlib.crc32(str(path).encode()) % 1000 / 900))(path)


def files(*, are_manifests: bool) -> list[Path]:
    """Return the files under the working directory."""
    found = sorted(path for path in Path().rglob("*") if path.is_file())
    return [path for path in found if (path.name == MANIFEST) == are_manifests]


def named(result: Inspection) -> set[Path]:
    return {problem.path for problem in result.problems}


def publish_again(changes: dict[str, bytes], *, digest: str | None = None) -> None:
    """Publish the agent once more with other files, or as made from another configuration."""
    artefact = read_manifest(AGENT / MANIFEST)
    content = {name: artefact.read(name) for name in artefact.sha256} | changes
    publish(AGENT, content, kind="agent", digest=digest or artefact.digest, about=artefact.about)


def test_what_was_just_made_is_whole(study: Study) -> None:
    result = inspect_study(study)
    assert not result.problems and not result.notes
    assert result.files == set(files(are_manifests=False)) | set(files(are_manifests=True))
    assert result.summary().endswith("MB, all whole")


DAMAGES = [flip_somewhere, cut, lengthen, empty, zero, Path.unlink]


@pytest.mark.parametrize("are_manifests", [False, True], ids=["files", "manifests"])
@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_every_damaged_file_is_named_and_no_other(
    study: Study, damage: Callable[[Path], None], are_manifests: bool
) -> None:
    victims = files(are_manifests=are_manifests)
    for path in victims:
        damage(path)
    assert named(inspect_study(study)) == set(victims)


@pytest.mark.parametrize("are_manifests", [False, True], ids=["files", "manifests"])
def test_files_swapped_between_games_are_named(study: Study, are_manifests: bool) -> None:
    victims = [path for path in files(are_manifests=are_manifests) if "Catch" in path.parts]
    expected = set()
    for path in victims:
        other = Path(str(path).replace("Catch", "Pong"))
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)
        if first != second:
            expected |= {path.parent, other.parent} if are_manifests else {path, other}
    assert len(expected) >= 14
    assert named(inspect_study(study)) == expected


@pytest.mark.parametrize("key", ["Pong", "iris_pretrained"])
def test_an_artefact_at_the_address_of_another_is_named_with_both_values(study: Study, key: str) -> None:
    other = Path(str(AGENT).replace("Catch", "Pong") if key == "Pong" else str(AGENT).replace("iris", key))
    shutil.rmtree(AGENT)
    shutil.copytree(other, AGENT)
    problems = {problem.path: problem for problem in inspect_study(study).problems}
    assert problems[AGENT].reason == "foreign"
    assert (
        key in problems[AGENT].finding
        and f"expected {'Catch' if key == 'Pong' else 'iris'}" in problems[AGENT].finding
    )


def test_an_extra_file_is_named_and_one_that_was_set_aside_is_not(study: Study) -> None:
    (AGENT / "notes.txt").write_text("mine")
    (AGENT / "agent.safetensors.corrupt-sha256").write_text("old")
    (problem,) = inspect_study(study).problems
    assert problem.path == AGENT / "notes.txt" and problem.reason == "extra"


def test_scores_of_an_agent_that_was_made_anew_are_outdated(study: Study) -> None:
    publish_again({"agent.safetensors": b"another agent"})
    reasons = {problem.path: problem.reason for problem in inspect_study(study).problems}
    assert reasons == {SCORES: "outdated", AGENT / "curve.csv": "outdated"}


def test_changes_that_were_kept_are_hashed_and_those_that_are_gone_are_a_note(study: Study) -> None:
    changes = b"diff --git a/src b/src"
    sha256 = hashlib.sha256(changes).hexdigest()
    kept = places.diffs("smoke") / f"{sha256}.diff"
    record = {"stage": "agent", "inputs": {}, "diff_sha256": sha256, "diff_file": str(kept)}
    publish_again({"provenance.json": json.dumps(record).encode()})
    result = inspect_paths([AGENT])
    assert not result.problems and str(kept) in result.notes[0] and len(result.notes) == 1
    kept.parent.mkdir(parents=True)
    kept.write_bytes(changes)
    result = inspect_paths([AGENT])
    assert not result.problems and not result.notes and kept in result.files
    kept.write_bytes(changes[:-1])
    (problem,) = inspect_paths([AGENT]).problems
    assert (problem.path, problem.reason, problem.expected) == (kept, "sha256", sha256)
    assert "its name has" in problem.line() and "dvc checkout" in problem.line()


def test_another_configuration_is_a_note_and_no_damage(study: Study) -> None:
    publish_again({}, digest="0123456789abcdef")
    result = inspect_study(study)
    assert not result.problems
    assert result.notes[0].startswith("1 artefacts were made from another configuration")


def test_the_command_tells_one_line_for_each_problem_and_exits_with_three(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", "--study", "smoke"]) == 0
    assert "all whole" in capsys.readouterr().out
    flip(0.5)(AGENT / "agent.safetensors")
    (SCORES / "cost.json").unlink()
    assert cli.main(["verify", "--study", "smoke"]) == 3
    lines, verdict = capsys.readouterr().out.splitlines(), capsys.readouterr().err
    assert len(lines) == 2 and "agent.safetensors is damaged: its sha256 is" in lines[0] + lines[1]
    assert cli.main(["verify", "--study", "smoke", "--json"]) == 3
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert not told["is_whole"] and {problem["reason"] for problem in told["problems"]} == {
        "sha256",
        "missing",
    }
    assert all(len(problem["expected"]) == 64 for problem in told["problems"])
    assert captured.err.startswith("irisflow: ") and "2 problems" in captured.err, verdict
    assert (AGENT / "agent.safetensors").exists(), "it only reads"


def test_set_aside_renames_what_is_damaged_and_deletes_nothing(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(0.5)(AGENT / "agent.safetensors")
    halve(TOKENIZER / MANIFEST)
    before = {path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert cli.main(["verify", "--study", "smoke", "--set-aside"]) == 3
    assert (AGENT / "agent.safetensors.corrupt-sha256").exists()
    assert (TOKENIZER / "manifest.json.corrupt-unreadable").exists()
    assert {path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert "set aside as agent.safetensors.corrupt-sha256" in capsys.readouterr().out


def test_single_paths_can_be_verified_and_a_path_without_an_artefact_is_refused(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(0.5)(AGENT / "metrics.jsonl")
    for path in (AGENT, AGENT / "agent.safetensors", AGENT.parent, AGENT.absolute()):
        assert cli.main(["verify", str(path)]) == 3, path
        assert "metrics.jsonl is damaged" in capsys.readouterr().out
    assert cli.main(["verify", str(SCORES)]) == 0
    Path("elsewhere").mkdir()
    assert cli.main(["verify", "elsewhere"]) == 2
    assert cli.main(["verify", "--study", "quick"]) == 3
    assert "Nothing of study quick (quick) is here" in capsys.readouterr().out


def test_it_needs_no_torch(study: Study) -> None:
    code = (
        "import sys; from irisflow.cli import main\n"
        "code = main(['verify', '--study', 'smoke'])\n"
        "sys.exit(f'imports torch' if 'torch' in sys.modules else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def edit_in_place(path: Path) -> None:
    """Change a byte and put the times back: no size or date tells of it."""
    times = path.stat()
    flip(0.5)(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def versioned(study: Study) -> Path:
    """The working directory with all files in DVC, `dvc.lock` written."""
    Path("dvc.yaml").write_text(
        "stages: {all: {cmd: 'true', outs: [data/smoke, results/smoke, leftovers/smoke, reports/summary.json]}}\n"
    )
    Path("leftovers/smoke").mkdir(parents=True)
    Path(".dvcignore").write_text("*.corrupt-*\n")
    for command in (["init", "--no-scm", "--quiet"], ["commit", "--force", "--quiet"]):
        run(Path(), sys.executable, "-m", "dvc", *command, check=True)
    return Path()


@pytest.mark.slow
def test_an_edit_that_dvc_does_not_see_is_found_and_its_copy_restores_it(
    study: Study, versioned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not inspect_study(study).problems
    edit_in_place(AGENT / "agent.safetensors")
    assert "up to date" in run(versioned, sys.executable, "-m", "dvc", "status", check=True).stdout
    assert cli.main(["verify", "--study", "smoke", "--set-aside"]) == 3
    told = capsys.readouterr().out
    assert f"`dvc checkout {AGENT}` restores it" in told
    run(versioned, sys.executable, "-m", "dvc", "checkout", "--quiet", str(AGENT), check=True)
    assert not inspect_study(study).problems
    assert (AGENT / "agent.safetensors.corrupt-sha256").exists(), "DVC leaves it alone"
    damage_copies(study)


def damage_copies(study: Study) -> None:
    """Damage DVC's own files, one after the other, each of which must be found."""
    copy = next(
        path for path in sorted(Path(".dvc/cache/files/md5").rglob("*")) if path.stat().st_size == 200
    )
    copy.chmod(0o644)
    edit_in_place(copy)
    (problem,) = inspect_study(study).problems
    assert problem.path.samefile(copy) and "its md5 is" in problem.finding
    listing = next(Path(".dvc/cache/files/md5").rglob("*.dir"))
    listing.chmod(0o644)
    edit_in_place(listing)
    assert {problem.path.resolve() for problem in inspect_study(study).problems} >= {listing.resolve()}
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  all:\n    outs: {half")
    assert Path("dvc.lock") in named(inspect_study(study))


@pytest.mark.slow
def test_what_was_set_aside_is_planned_again_with_what_stands_on_it(finished: Path) -> None:
    edit_in_place(finished / TOKENIZER / "tokenizer.safetensors")
    assert planned(finished) == {}, "Snakemake does not look into files"
    assert irisflow(finished, "verify", "--study", "smoke", "--set-aside").returncode == 3
    pretraining = {"pretrain_tokenizer": 1, "pretrain_world_model": 1}
    after = {"train_agent": 1, "evaluate": 1, "measure_world_model": 1, "aggregate": 1, "report": 1}
    assert planned(finished) == {**pretraining, **after}
