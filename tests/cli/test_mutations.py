"""Mutated manifests, score tables and records: a typed error or an equal load, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from published import row

from irisflow.errors import DataError
from irisflow.statistics.episode_score import to_csv
from irisflow.statistics.inputs import read_costs, read_metrics, read_provenance, read_timings
from irisflow.statistics.scores import read_scores
from irisflow.storage import MANIFEST, open_artefact, publish, read_manifest, verify

NUM_MUTATIONS = 200
COST = {
    "stage": "evaluate", "variant": "iris", "game": "Pong", "seed": 0, "run_id": "iris/Pong/seed-0", "wall_s": 1.25,
    "env_steps": 0, "num_updates": {}, "peak_rss_mb": 500.5, "device": "cpu", "parameters": None,
}  # fmt: skip
PROVENANCE = {
    "stage": "evaluate", "digest": "0123456789abcdef", "commit": None, "branch": None, "dirty": None, "versions": {},
    "hardware": {"cores": 2}, "computing": {"torch_threads": 1}, "seeds": {"run": 0}, "inputs": {"a": "b"},
    "command": "irisflow evaluate",
}  # fmt: skip
ROWS = [row(episode=number, return_raw=-20.0 + number) for number in range(5)]
CONTENTS = {
    "scores.csv": (to_csv(ROWS).encode(), lambda path: read_scores([path])),
    "cost.json": (json.dumps(COST, indent=1).encode(), lambda path: read_costs([path])),
    "provenance.json": (json.dumps(PROVENANCE, indent=1).encode(), lambda path: read_provenance([path])),
    "metrics.jsonl": (b'{"epoch": 1, "env_steps": 32, "train/total": 0.5}\n' * 4, read_metrics),
    "timings.jsonl": (b'{"epoch": 1, "seconds/collect": 0.5}\n' * 4, read_timings),
}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with one stretch changed: flipped, overwritten, cut, doubled, or swapped with bytes that parsers like."""
    begin, length = int(rng.integers(len(data))), int(rng.integers(1, 12))
    before, piece, after = data[:begin], data[begin : begin + length], data[begin + length :]
    tokens = [
        b"null",
        b"NaN",
        b"-1",
        b"[]",
        b"{}",
        b'"',
        b",",
        b"\n",
        b"1e999",
        b"\\ud800",
        b"\xff\xfe",
        b"9" * 5000,
        b"9" * 400,
        b"[" * 5000,
    ]
    choices = [bytes([piece[0] ^ 1 << int(rng.integers(8))]) + piece[1:], rng.bytes(length), b"", piece * 2]
    choices += [tokens[int(rng.integers(len(tokens)))]] * 3
    return before + choices[int(rng.integers(len(choices)))] + after


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """The folder of an artefact with a file of each kind."""
    files = {name: data for name, (data, _) in CONTENTS.items()}
    publish(tmp_path, files, kind="scores", digest="d" * 16, about={"game": "Pong", "seed": 0})
    return tmp_path


@pytest.mark.parametrize("name", CONTENTS)
def test_a_reader_of_a_table_or_record_raises_only_typed_errors(name: str, tmp_path: Path) -> None:
    data, read = CONTENTS[name]
    path, rng = tmp_path / name, np.random.default_rng(0)
    path.write_bytes(data)
    assert read(path), "the reader takes what is whole"
    refused = 0
    for _ in range(NUM_MUTATIONS):
        path.write_bytes(mutated(data, rng))
        try:
            read(path)
        except DataError as error:
            refused += 1
            assert str(path) in str(error)
    assert NUM_MUTATIONS / 3 < refused < NUM_MUTATIONS, "a format alone finds much and not all"


def unequal_loads(change: Callable[[bytes], bytes], path: Path, load: Callable[[], object]) -> int:
    """Return how many mutations of a file load as something else."""
    data, before, unequal = path.read_bytes(), load(), 0
    for _ in range(NUM_MUTATIONS):
        path.write_bytes(change(data))
        try:
            unequal += load() != before
        except DataError:
            continue
    path.write_bytes(data)
    return unequal


@pytest.mark.parametrize("name", [*CONTENTS, MANIFEST])
def test_behind_a_manifest_no_mutation_loads_as_anything_else(name: str, artefact: Path) -> None:
    rng = np.random.default_rng(2)

    def load() -> object:
        found = open_artefact(artefact, kind="scores")
        verify(artefact / "scores.csv")
        return found, {file: found.read(file) for file in found.sha256}

    assert unequal_loads(lambda data: mutated(data, rng), artefact / name, load) == 0


def test_a_reader_without_the_hash_would_have_loaded_mutations(artefact: Path) -> None:
    rng, path = np.random.default_rng(2), artefact / "scores.csv"
    assert unequal_loads(lambda data: mutated(data, rng), path, lambda: read_scores([path])) > 0


def test_a_manifest_with_equal_content_in_other_bytes_is_refused(artefact: Path) -> None:
    path = artefact / MANIFEST
    content = json.loads(path.read_text())
    for text in (json.dumps(content), json.dumps(content, indent=1), path.read_text().replace("\n", "\r\n")):
        path.write_text(text, newline="")
        with pytest.raises(DataError, match="damaged"):
            read_manifest(path)
