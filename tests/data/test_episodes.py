import json
import resource
import signal

import numpy as np
import psutil
import pytest
import zstandard
from safetensors.numpy import load as load_safetensors

from irisflow.data.episodes import decode_episodes, load_episodes, save_episodes
from irisflow.errors import DataError, IrisflowError, ResourceError
from irisflow.records import Episode


def episode(length: int, seed: int = 0, terminated: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    is_last = np.arange(length) == length - 1
    return Episode(
        rng.integers(0, 256, size=(length, 3, 16, 16), dtype=np.uint8),
        rng.integers(0, 18, size=length),
        rng.normal(size=length).astype(np.float32),
        is_last & terminated,
        np.zeros(length, np.bool_),
    )


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "folder" / "pong.safetensors.zst"
    save_episodes(
        file, [episode(5), episode(3, 1), episode(4, 2, False)], metadata={"seed": "3", "game": "Pong"}
    )
    return file


def header_of(content: bytes) -> dict:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def with_header(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return compressed(len(text).to_bytes(8, "little") + text + body)


def compressed(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=options.pop("checksum", True), **options).compress(content)


def refused(path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_episodes(path)
    message = str(caught.value)
    assert str(path) in message
    assert "dvc checkout" in message
    assert "\n" not in message
    return message


def test_what_was_saved_is_loaded(path) -> None:
    episodes, metadata = load_episodes(path)
    assert metadata == {"seed": "3", "game": "Pong"}
    expected = [episode(5), episode(3, 1), episode(4, 2, False)]
    for found, one in zip(episodes, expected, strict=True):
        for name, array in vars(one).items():
            assert np.array_equal(getattr(found, name), array)
            assert getattr(found, name).dtype == array.dtype
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_equal_episodes_give_equal_bytes_whatever_the_order_of_the_metadata(path) -> None:
    again = path.with_name("again")
    save_episodes(
        again, [episode(5), episode(3, 1), episode(4, 2, False)], metadata={"game": "Pong", "seed": "3"}
    )
    assert again.read_bytes() == path.read_bytes()


def test_the_content_is_safetensors_that_others_can_read(path) -> None:
    tensors = load_safetensors(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
    assert tensors["observations"].shape == (12, 3, 16, 16)
    assert tensors["lengths"].tolist() == [5, 3, 4]
    assert tensors["terminated"].nonzero()[0].tolist() == [4, 7]


def test_every_truncation_is_noticed(path) -> None:
    data = path.read_bytes()
    for length in [*range(20), *np.linspace(20, len(data) - 1, 40, dtype=int)]:
        refused(path, data[:length])


def test_every_flipped_bit_is_noticed(path) -> None:
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(24), *rng.integers(len(data), size=100), *range(len(data) - 6, len(data))]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        refused(path, bytes(flipped))


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with a stretch of up to 40 of them overwritten, cut out, doubled, zeroed, or one bit flipped."""
    begin, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
    before, piece, after = data[:begin], data[begin : begin + length], data[begin + length :]
    flipped = bytes([piece[0] ^ 1 << int(rng.integers(8))]) + piece[1:]
    choices = [rng.bytes(len(piece)), b"", piece + piece, bytes(len(piece)), flipped, piece[::-1]]
    return before + choices[int(rng.integers(len(choices)))] + after


def test_five_hundred_mutations_are_refused_or_change_nothing(path) -> None:
    whole = path.read_bytes()
    content = zstandard.ZstdDecompressor().decompress(whole)
    rng, found = np.random.default_rng(1), 0
    for number in range(500):
        # half of them inside a frame whose checksum is right, so that the checks behind it are met
        data = mutated(whole, rng) if number % 2 else compressed(mutated(content, rng))
        if data in (whole, compressed(content)):
            continue
        try:
            decode_episodes(data, path)
        except IrisflowError:
            found += 1
        else:
            assert number % 2 == 0, "only what its checksum vouches for may load"
    assert found > 300


def test_bytes_after_the_end_are_noticed(path) -> None:
    refused(path, path.read_bytes() + b"x")
    refused(path, path.read_bytes() * 2)


def test_a_file_of_another_kind_is_refused(path) -> None:
    for data in (b"", b"\x80\x04\x95pickle", b"PK\x03\x04zip", compressed(b"\x80\x04\x95" + b"x" * 100)):
        refused(path, data)


def test_a_file_without_a_checksum_is_refused(path) -> None:
    content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    assert "checksum" in refused(path, compressed(content, checksum=False))


def test_a_missing_file_is_one_line(tmp_path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_episodes(tmp_path / "missing")


def changed(change):
    """Return a function from content to content with a changed header."""

    def apply(content: bytes) -> bytes:
        header = header_of(content)
        change(header)
        return with_header(header, content[8 + int.from_bytes(content[:8], "little") :])

    return apply


HEADERS = {
    "another format": lambda h: h["__metadata__"].update(format="others-1"),
    "no metadata": lambda h: h.pop("__metadata__"),
    "metadata no mapping": lambda h: h["__metadata__"].update(metadata="[1]"),
    "metadata no json": lambda h: h["__metadata__"].update(metadata="{"),
    "a missing array": lambda h: h.pop("rewards"),
    "an extra array": lambda h: h.update(extra=h["rewards"]),
    "another dtype": lambda h: h["rewards"].update(dtype="I32"),
    "grey frames": lambda h: h["observations"].update(shape=[12, 1, 16, 48]),
    "a negative extent": lambda h: h["actions"].update(shape=[-12]),
    "a huge extent": lambda h: h["actions"].update(shape=[2**63]),
    "a boolean extent": lambda h: h["lengths"].update(shape=[True]),
    "a shape of words": lambda h: h["actions"].update(shape="12"),
    "overlapping arrays": lambda h: h["actions"].update(data_offsets=[0, 96]),
    "swapped arrays": lambda h: h.update(terminated=h["truncated"], truncated=h["terminated"]),
    "fewer steps": lambda h: h["rewards"].update(shape=[11]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(name: str, path) -> None:
    content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    path.write_bytes(changed(dict.copy)(content))
    load_episodes(path)
    refused(path, changed(HEADERS[name])(content))


def test_a_header_of_absurd_length_is_refused(path) -> None:
    assert "claims" in refused(path, compressed((2**63).to_bytes(8, "little") + b"x" * 50))
    assert "header" in refused(path, with_header([[[]]], b""))
    nested = b"[" * 100_000
    refused(path, compressed(len(nested).to_bytes(8, "little") + nested))


def with_values(content: bytes, name: str, values: np.ndarray) -> bytes:
    begin, end = header_of(content)[name]["data_offsets"]
    start = 8 + int.from_bytes(content[:8], "little")
    return compressed(content[: start + begin] + values.tobytes() + content[start + end :])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lengths", np.array([5, 3, 5]), "add up"),
        ("lengths", np.array([12, 0, 0]), "add up"),
        ("lengths", np.array([-1, 9, 4]), "add up"),
        ("lengths", np.array([2**62, 2**62, 2**63 - 12 - 2**63 + 24]), "add up"),
        ("lengths", np.array([4, 4, 4]), "before its last step"),
        ("terminated", np.full(12, 2, np.uint8), "before its last step"),
        ("truncated", np.ones(12, np.bool_), "before its last step"),
        ("actions", np.full(12, -1), "negative action"),
        ("rewards", np.full(12, np.nan, np.float32), "no finite number"),
    ],
)
def test_impossible_values_are_refused(name: str, values: np.ndarray, message: str, path) -> None:
    content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    assert message in refused(path, with_values(content, name, values))


def bomb() -> bytes:
    """A few kilobytes that unpack to 8 GiB of zeros, with an honest header."""
    num_steps = 700_000
    steps = {"actions": ("I64", 8), "rewards": ("F32", 4), "observations": ("U8", 12288)}
    steps |= {"terminated": ("BOOL", 1), "truncated": ("BOOL", 1)}
    header = {"__metadata__": {"format": "irisflow-episodes-1", "metadata": "{}"}}
    header["lengths"], end = {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}, 8
    for name, (kind, width) in steps.items():
        shape = [num_steps, 3, 64, 64] if name == "observations" else [num_steps]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + width * num_steps]}
        end += width * num_steps
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=len(content) + end)
    pieces = [compressor.compress(content)]
    pieces += [compressor.compress(bytes(1 << 24)) for _ in range(end >> 24)]
    pieces.append(compressor.compress(bytes(end % (1 << 24))))
    return b"".join([*pieces, compressor.flush()])


@pytest.mark.slow
def test_a_file_that_unpacks_to_more_than_memory_is_refused_before_memory_is_taken(path, monkeypatch) -> None:
    available = psutil.virtual_memory()._replace(available=2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    path.write_bytes(bomb())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ResourceError, match=r"unpacks to 8\.\d GiB, 1\.0 GiB of memory are free"):
        load_episodes(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_disk_that_refuses_is_one_line_and_leaves_the_old_file(path, monkeypatch) -> None:
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(IrisflowError) as caught:
            save_episodes(path, [episode(50)], metadata={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert isinstance(caught.value, ResourceError)
    assert path.read_bytes() == old
    assert [item.name for item in path.parent.iterdir()] == [path.name]
