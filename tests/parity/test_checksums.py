"""The numbers that nothing depends on (an unused codebook row, say) can only be held by a checksum."""

import hashlib

import pytest
from fixture import FOLDER

SUMS = FOLDER / "SHA256SUMS"


@pytest.mark.skipif(
    not SUMS.exists(), reason=f"{FOLDER} has no SHA256SUMS: its numbers are held by parity alone"
)
def test_every_file_of_the_folder_is_the_one_that_was_taken_over() -> None:
    stated = dict(line.split()[::-1] for line in SUMS.read_text().splitlines())
    assert stated.keys() == {
        path.name for path in FOLDER.iterdir() if path.suffix in (".safetensors", ".json")
    }
    for name, sha256 in stated.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == sha256, f"{name} was changed"
