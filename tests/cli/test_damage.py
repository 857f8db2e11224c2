"""Damaged, missing and foreign files, and a full disk: one line, and what is there stays."""

import sys
from pathlib import Path

import pytest

from irisflow import cli
from workspace import run, snapshot

pytestmark = pytest.mark.slow
CATCH = ("--scale=smoke", "--game=Catch", "--seed=0")
TRAIN = ("train-agent", "--variant=iris_pretrained", *CATCH)
EVALUATE = ("evaluate", "--variant=iris", *CATCH)
TOKENIZER = ("pretrain-tokenizer", "--tokenizer=iris", *CATCH)
WORLD_MODEL = ("pretrain-world-model", "--world-model=iris", "--tokenizer=iris", *CATCH)
AGGREGATE, REPORT = ("aggregate", "--study=smoke"), ("report", "--study=smoke")
AGENT = "results/smoke/agents/iris/Catch/seed-0"
SCORES = "results/smoke/scores/iris/Catch/seed-0"
RECORDING = "data/smoke/Catch/seed-0.safetensors.zst"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("command", "file", "damage"),
    [
        (EVALUATE, f"{AGENT}/agent.safetensors", flip),
        (EVALUATE, f"{AGENT}/agent.safetensors", truncate),
        (EVALUATE, f"{AGENT}/agent.safetensors", remove),
        (EVALUATE, f"{AGENT}/manifest.json", truncate),
        (EVALUATE, f"{AGENT}/manifest.json", remove),
        (TOKENIZER, RECORDING, flip),
        (TOKENIZER, RECORDING, truncate),
        (TOKENIZER, RECORDING, empty),
        (TOKENIZER, RECORDING, remove),
        (WORLD_MODEL, "results/smoke/tokenizers/iris/own/Catch/seed-0/tokenizer.safetensors", flip),
        (TRAIN, "results/smoke/tokenizers/iris/own/Catch/seed-0/tokenizer.safetensors", flip),
        (TRAIN, "results/smoke/world_models/iris/iris/own/Catch/seed-0/manifest.json", remove),
        (AGGREGATE, f"{SCORES}/scores.csv", truncate),
        (AGGREGATE, f"{SCORES}/scores.csv", empty),
        (AGGREGATE, f"{SCORES}/scores.csv", remove),
        (AGGREGATE, f"{SCORES}/cost.json", truncate),
        (AGGREGATE, f"{SCORES}/provenance.json", empty),
        (AGGREGATE, f"{AGENT}/metrics.jsonl", truncate),
        (REPORT, "results/smoke/studies/smoke/summary.json", truncate),
        (REPORT, f"{AGENT}/reconstructions.safetensors", truncate),
        (REPORT, f"{AGENT}/reconstructions.safetensors", remove),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_everything_else_stays(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    file: str,
    damage: object,
) -> None:
    monkeypatch.chdir(finished)
    damage(finished / file)  # type: ignore[operator]
    before = snapshot(finished)
    code = cli.main(command)
    lines = capsys.readouterr().err.splitlines()
    assert code == 3 and len(lines) == 1 and lines[0].startswith("irisflow: "), (code, lines)
    assert str(Path(file).parent) in lines[0]
    assert snapshot(finished) == before


def test_the_recording_of_another_game_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    (finished / RECORDING).write_bytes((finished / RECORDING.replace("Catch", "Pong")).read_bytes())
    assert cli.main(TOKENIZER) == 3
    assert "'Pong', expected 'Catch'" in capsys.readouterr().err


def test_weights_of_other_sizes_are_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    before = snapshot(finished)
    assert cli.main((*EVALUATE, "--override=actor_critic.hidden_dim=64")) == 3
    assert "agent.safetensors" in capsys.readouterr().err
    assert snapshot(finished) == before


@pytest.mark.parametrize("command", [TRAIN, WORLD_MODEL, TOKENIZER, EVALUATE, AGGREGATE, REPORT])
def test_a_stage_without_what_it_stands_on_says_so_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "irisflow: " in lines[0], lines
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        (("train-agent", "--variant=iris", *CATCH), 20_000),
        (EVALUATE, 500),
        (REPORT, 20_000),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_the_old_files_stay(
    finished: Path, command: tuple[str, ...], limit: int
) -> None:
    code = (
        "import resource, sys\n"
        "from irisflow.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    before = snapshot(finished)
    result = run(finished, sys.executable, "-c", code, *command)
    lines = [line for line in result.stderr.splitlines() if line.startswith("irisflow: ")]
    assert result.returncode == 4 and len(lines) == 1 and "no space left" in lines[0], result.stderr
    assert "Traceback" not in result.stderr
    assert snapshot(finished) == before
