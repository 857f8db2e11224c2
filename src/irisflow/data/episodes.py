"""Recorded episodes on disk: one `.safetensors.zst` file, described in docs/dataset-format.md.

Nothing in a file is trusted: the header is checked against the length before memory is taken, and the
checksum before anything is used.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zstandard

from irisflow.errors import DataError, ResourceError
from irisflow.records import Episode
from irisflow.storage import write_atomically

FORMAT = "irisflow-episodes-1"
MAX_HEADER_BYTES = 1_000_000
MEND = "Restore it with `dvc checkout`, or delete it and record it again."
FIELDS: dict[
    str, tuple[str, np.dtype[Any]]
] = {  # in the order of the bytes: the widest first, so that every array is aligned
    "lengths": ("I64", np.dtype("<i8")),
    "actions": ("I64", np.dtype("<i8")),
    "rewards": ("F32", np.dtype("<f4")),
    "observations": ("U8", np.dtype("u1")),
    "terminated": ("BOOL", np.dtype("?")),
    "truncated": ("BOOL", np.dtype("?")),
}


def save_episodes(path: Path, episodes: Sequence[Episode], *, metadata: Mapping[str, str]) -> None:
    """Write the episodes to one file, which appears whole or not at all.

    Raises ResourceError where the disk refuses.
    """
    write_atomically(path, encode_episodes(episodes, metadata=metadata))


def load_episodes(path: Path) -> tuple[list[Episode], dict[str, str]]:
    """Return the episodes of a file and its metadata, as `decode_episodes` does.

    Raises DataError also if the file is missing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: recorded episodes cannot be read ({error.strerror}). {MEND}") from None
    return decode_episodes(data, path)


def encode_episodes(episodes: Sequence[Episode], *, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file; equal episodes give equal bytes. Their frames must agree in size."""
    header = _header(episodes, metadata)
    size = len(header) + sum(_num_bytes(entry) for entry in _entries(episodes).values())
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True)
    file = BytesIO()
    with compressor.stream_writer(file, size=size, closefd=False) as writer:
        writer.write(header)
        for array in _arrays(episodes):
            writer.write(np.ascontiguousarray(array).tobytes())
    return file.getvalue()


def decode_episodes(data: bytes, path: Path) -> tuple[list[Episode], dict[str, str]]:
    """Return the episodes and the metadata in a file's bytes. The arrays are read-only views of one block.

    Raises DataError, naming `path`, if they are damaged in any way or of another format, and ResourceError if
    they do not fit into memory.
    """
    try:
        layout = _layout(data)
        _check_memory(path, layout.num_bytes)
        content = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        return _episodes(_views(content, layout)), layout.metadata
    except (zstandard.ZstdError, _DamagedError) as error:
        raise DataError(f"{path}: recorded episodes are damaged: {error}. {MEND}") from None


class _DamagedError(Exception):
    """What is wrong with a file's content."""


@dataclass(frozen=True)
class _Layout:
    """A checked header: where each array lies in the content."""

    shapes: dict[str, list[int]]
    offsets: dict[str, int]
    num_bytes: int
    metadata: dict[str, str]


def _entries(episodes: Sequence[Episode]) -> dict[str, dict[str, Any]]:
    """Return safetensors' description of each array."""
    num_steps = sum(len(episode) for episode in episodes)
    frames = {episode.observations.shape[1:] for episode in episodes}
    if len(frames) != 1 or not num_steps:
        raise ValueError(f"episodes to save have {num_steps} steps of frames {frames}; one shape is allowed")
    shapes = {name: [num_steps] for name in FIELDS}
    shapes |= {"lengths": [len(episodes)], "observations": [num_steps, *frames.pop()]}
    return _located(shapes)


def _located(shapes: Mapping[str, list[int]]) -> dict[str, dict[str, Any]]:
    """Return the header entries of arrays that follow each other in the order of FIELDS."""
    sizes = [_volume(shapes[name]) * kind.itemsize for name, (_, kind) in FIELDS.items()]
    ends = np.cumsum([0, *sizes], dtype=object).tolist()
    places = zip(FIELDS.items(), pairwise(ends), strict=True)
    return {
        name: {"dtype": kind, "shape": shapes[name], "data_offsets": list(place)}
        for (name, (kind, _)), place in places
    }


def _volume(shape: Sequence[int]) -> int:
    volume = 1
    for extent in shape:
        volume *= extent
    return volume


def _num_bytes(entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(end - begin)


def _header(episodes: Sequence[Episode], metadata: Mapping[str, str]) -> bytes:
    """Return safetensors' header: its length, then JSON padded to a multiple of eight bytes."""
    notes = {"format": FORMAT, "metadata": json.dumps(dict(metadata), sort_keys=True)}
    text = json.dumps({"__metadata__": notes, **_entries(episodes)}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _arrays(episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Yield the content's arrays in the order of FIELDS."""
    yield np.array([len(episode) for episode in episodes], "<i8")
    for name, (_, kind) in list(FIELDS.items())[1:]:
        for episode in episodes:
            yield getattr(episode, name).astype(kind, copy=False)


def _layout(compressed: bytes) -> _Layout:
    """Return the checked layout of a compressed file without unpacking more than its header."""
    frame = zstandard.get_frame_parameters(compressed)
    if not frame.has_checksum or frame.content_size in (0, zstandard.CONTENTSIZE_UNKNOWN):
        raise _DamagedError("the checksum or the length of the content is missing")
    with zstandard.ZstdDecompressor().stream_reader(compressed) as reader:
        num_header_bytes = int.from_bytes(reader.read(8), "little")
        if not 2 <= num_header_bytes <= MAX_HEADER_BYTES:
            raise _DamagedError(
                f"its header claims {num_header_bytes} bytes, at most {MAX_HEADER_BYTES} are allowed"
            )
        header = _parsed(reader.read(num_header_bytes))
    notes = header.pop("__metadata__")
    shapes = {name: entry["shape"] for name, entry in header.items()}
    start = 8 + num_header_bytes
    num_bytes = start + max(entry["data_offsets"][1] for entry in header.values())
    if num_bytes != frame.content_size:
        raise _DamagedError(f"its header describes {num_bytes} bytes, the content has {frame.content_size}")
    offsets = {name: start + entry["data_offsets"][0] for name, entry in header.items()}
    return _Layout(shapes, offsets, num_bytes, _notes(notes))


def _parsed(text: bytes) -> dict[str, Any]:
    """Return the header if its arrays have the names, types, shapes and places that the format fixes."""
    try:
        header = json.loads(text)
        shapes = {name: [_extent(extent) for extent in header[name]["shape"]] for name in FIELDS}
        notes = header["__metadata__"]
        is_ours = notes["format"] == FORMAT and header == {"__metadata__": notes, **_located(shapes)}
    except (ValueError, KeyError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise _DamagedError(f"its header is not that of {FORMAT}")
    (num_steps,), (num_episodes,) = shapes["actions"], shapes["lengths"]
    frame = shapes["observations"][1:]
    expected = {name: [num_steps] for name in FIELDS}
    expected |= {"lengths": [num_episodes], "observations": [num_steps, *frame]}
    if shapes != expected or len(frame) != 3 or frame[0] != 3:
        raise _DamagedError(f"the shapes of its arrays do not fit together: {shapes}")
    return dict(header)


def _extent(value: object) -> int:
    """Return the extent of an axis if it is one, else raise ValueError."""
    if type(value) is not int or not 0 < value < 2**48:
        raise ValueError(value)
    return value


def _notes(notes: Mapping[str, str]) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in json.loads(notes["metadata"]).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _DamagedError("its metadata is not a mapping in JSON") from None


def _check_memory(path: Path, num_bytes: int) -> None:
    available = psutil.virtual_memory().available
    if num_bytes > available:
        raise ResourceError(
            f"{path}: unpacks to {num_bytes / 2**30:.1f} GiB, {available / 2**30:.1f} GiB of memory are free."
            " Record fewer steps (recording.num_steps) or use a larger machine."
        )


def _views(content: bytes, layout: _Layout) -> dict[str, np.ndarray]:
    """Return the arrays, after checking what their values must obey."""
    arrays = {
        name: np.frombuffer(content, kind, _volume(shape), layout.offsets[name]).reshape(shape)
        for (name, (_, kind)), shape in zip(FIELDS.items(), layout.shapes.values(), strict=True)
    }
    lengths, flags = arrays["lengths"], np.stack([arrays["terminated"], arrays["truncated"]]).view(np.uint8)
    if (lengths < 1).any() or sum(lengths.tolist()) != len(arrays["actions"]):
        raise _DamagedError("the lengths of its episodes do not add up to its number of steps")
    if (flags > 1).any() or np.delete(flags, np.cumsum(lengths) - 1, axis=1).any():
        raise _DamagedError("an episode ends before its last step")
    if (arrays["actions"] < 0).any() or not np.isfinite(arrays["rewards"]).all():
        raise _DamagedError("it has a negative action or a reward that is no finite number")
    return arrays


def _episodes(arrays: dict[str, np.ndarray]) -> list[Episode]:
    ends = np.cumsum(arrays.pop("lengths")).tolist()
    return [
        Episode(**{name: array[begin:end] for name, array in arrays.items()})
        for begin, end in pairwise([0, *ends])
    ]
