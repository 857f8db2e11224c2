"""Damaged, missing and foreign files, and a full disk: one line, and what is there stays, if under another name."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from irisflow import cli
from irisflow.data.episodes import decode_episodes, encode_episodes
from irisflow.errors import DataError
from irisflow.identity import check_made_as_planned, planned_digest
from irisflow.statistics.scores import read_scores
from irisflow.storage import MANIFEST, Artefact, publish, read_manifest
from workspace import planned, run, snapshot

pytestmark = pytest.mark.slow
CATCH = ("--scale=smoke", "--game=Catch", "--seed=0")
TRAIN = ("train-agent", "--variant=iris_pretrained", *CATCH)
EVALUATE = ("evaluate", "--variant=iris", *CATCH)
TOKENIZER = ("pretrain-tokenizer", "--tokenizer=iris", *CATCH)
WORLD_MODEL = ("pretrain-world-model", "--world-model=iris", "--tokenizer=iris", *CATCH)
AGGREGATE, REPORT = ("aggregate", "--study=smoke"), ("report", "--study=smoke")
AGENT = "results/smoke/agents/iris/Catch/seed-0"
SCORES = "results/smoke/scores/iris/Catch/seed-0"
RECORDING = "data/smoke/Catch/seed-0"
EPISODES = f"{RECORDING}/episodes.safetensors.zst"
PRETRAINED = "results/smoke/tokenizers/iris/own/Catch/seed-0"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


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
        (EVALUATE, f"{AGENT}/manifest.json", flip),
        (TOKENIZER, EPISODES, flip),
        (TOKENIZER, EPISODES, truncate),
        (TOKENIZER, EPISODES, empty),
        (TOKENIZER, EPISODES, remove),
        (WORLD_MODEL, f"{PRETRAINED}/tokenizer.safetensors", flip),
        (TRAIN, f"{PRETRAINED}/tokenizer.safetensors", zero),
        (TRAIN, "results/smoke/world_models/iris/iris/own/Catch/seed-0/manifest.json", remove),
        (AGGREGATE, f"{SCORES}/scores.csv", truncate),
        (AGGREGATE, f"{SCORES}/scores.csv", empty),
        (AGGREGATE, f"{SCORES}/scores.csv", remove),
        (AGGREGATE, f"{SCORES}/scores.csv", flip),
        (AGGREGATE, f"{RECORDING}/cost.json", flip),
        (AGGREGATE, f"{SCORES}/cost.json", truncate),
        (AGGREGATE, f"{SCORES}/provenance.json", empty),
        (AGGREGATE, f"{AGENT}/metrics.jsonl", truncate),
        (REPORT, "results/smoke/studies/smoke/summary.json", truncate),
        (REPORT, "results/smoke/studies/smoke/summary.json", flip),
        (REPORT, f"{AGENT}/reconstructions.safetensors", truncate),
        (REPORT, f"{AGENT}/reconstructions.safetensors", remove),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_set_aside_and_everything_else_stays(
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
    after = snapshot(finished)
    assert {name.partition(".corrupt-")[0]: content for name, content in after.items()} == before
    if file in before:
        assert file in lines[0] and "It was set aside as" in lines[0] and file not in after
        assert not file.endswith(("safetensors", "zst", "csv")) or "its sha256 is" in lines[0]


@pytest.mark.parametrize(("mine", "others"), [("Catch", "Pong"), ("iris/", "iris_pretrained/")])
def test_an_agent_at_the_address_of_another_is_refused_and_set_aside(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mine: str,
    others: str,
) -> None:
    monkeypatch.chdir(finished)
    shutil.rmtree(AGENT)
    shutil.copytree(AGENT.replace(mine, others), AGENT)
    assert cli.main(EVALUATE) == 3
    assert f" {others.rstrip('/')}, expected {mine.rstrip('/')}." in capsys.readouterr().err
    assert not Path(AGENT).exists() and Path(f"{AGENT}.corrupt-foreign/agent.safetensors").exists()


def test_episodes_of_another_seed_are_refused_though_a_manifest_vouches_for_them(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    artefact = read_manifest(Path(RECORDING) / MANIFEST)
    files = {name: artefact.read(name) for name in artefact.sha256}
    episodes, metadata = decode_episodes(files["episodes.safetensors.zst"], Path())
    files["episodes.safetensors.zst"] = encode_episodes(episodes, metadata={**metadata, "seed": "7"})
    publish(Path(RECORDING), files, kind="recording", digest=artefact.digest, about=artefact.about)
    assert cli.main(TOKENIZER) == 3
    assert "holds episodes of seed '7', expected '0'" in capsys.readouterr().err


def of_another_configuration(folder: str) -> Artefact:
    """Publish an artefact again, whole, as one that another configuration made."""
    artefact = read_manifest(Path(folder) / MANIFEST)
    files = {name: artefact.read(name) for name in artefact.sha256}
    publish(Path(folder), files, kind=artefact.kind, digest="0123456789abcdef", about=artefact.about)
    return read_manifest(Path(folder) / MANIFEST)


def test_a_planned_stage_refuses_what_another_configuration_made_and_one_by_hand_says_so(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    expected = planned_digest(Path(AGENT), [])
    assert read_manifest(Path(AGENT) / MANIFEST).digest == expected
    artefact = of_another_configuration(AGENT)
    assert cli.main((*EVALUATE, f"--digest={planned_digest(Path(SCORES), [])}")) == 3
    assert f"(digest 0123456789abcdef, now {expected})" in capsys.readouterr().err
    assert Path(AGENT).exists(), "it is whole"
    check_made_as_planned(artefact, [], is_planned=False)
    assert "it is used as it is" in capsys.readouterr().err
    with pytest.raises(DataError):
        check_made_as_planned(artefact, [], is_planned=True)


def test_without_hashes_a_flipped_bit_would_have_been_believed(finished: Path) -> None:
    weights = finished / AGENT / "agent.safetensors"
    flip(weights)
    assert load_file(weights), "the format notices nothing"
    scores = finished / SCORES / "scores.csv"
    text = scores.read_text()
    scores.write_text(text.replace(",-1.0,", ",1.0,", 1))
    assert {row.return_raw for row in read_scores([scores])} == {-1.0, 1.0}, "a score that was never played"
    manifest = finished / AGENT / MANIFEST
    manifest.write_text(manifest.read_text().replace('"env_steps": 64', '"env_steps": 65'))
    assert json.loads(manifest.read_text())["about"]["env_steps"] == 65
    with pytest.raises(DataError, match="damaged"):
        read_manifest(manifest)


def test_what_a_reader_set_aside_is_made_again_by_the_next_snakemake(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    flip(Path(PRETRAINED) / "tokenizer.safetensors")
    assert cli.main(WORLD_MODEL) == 3
    pretraining = {"pretrain_tokenizer": 1, "pretrain_world_model": 1}
    after = {"train_agent": 1, "evaluate": 1, "measure_world_model": 1, "aggregate": 1, "report": 1}
    assert planned(finished) == {**pretraining, **after}


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
    result = run(finished, sys.executable, "-c", code, *command, "--force")
    lines = [line for line in result.stderr.splitlines() if line.startswith("irisflow: ")]
    assert result.returncode == 4 and len(lines) == 1 and "no space left" in lines[0], result.stderr
    assert "Traceback" not in result.stderr
    after = {name: content for name, content in snapshot(finished).items() if not name.startswith("resume/")}
    assert after == {name: content for name, content in before.items() if not name.startswith("resume/")}
