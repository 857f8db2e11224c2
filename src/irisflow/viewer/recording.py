"""Recordings: what was shown as mp4, what was played as NumPy file, and whole trajectories as episode files."""

import os
from datetime import datetime
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np

from irisflow.data.episodes import encode_episodes
from irisflow.storage import space_errors, sync_folder, write_atomically
from irisflow.viewer.drawing import fit
from irisflow.viewer.scene import Moment, Picture
from irisflow.viewer.trajectory import Trajectory, frame_of

NPZ_AT_MOST = 20_000  # steps, some 250 MB in memory; a recording ends there
FILM_SIDE = 512


class Film:
    """An mp4 file that grows picture by picture and takes its name when it is whole. All pictures have one size."""

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path, self.num_pictures = path, 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.mp4")
        with space_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                str(self._temporary), "w", format="mp4", options={"movflags": "faststart"}
            )
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "18", "preset": "veryfast"}

    def add(self, picture: Picture) -> None:
        """Append a picture. Raises ResourceError where the disk refuses."""
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if not self.num_pictures:
            self._stream.height, self._stream.width = even.shape[:2]
        self.num_pictures += 1
        with space_errors(self.path):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    def close(self) -> None:
        """Finish the file; one without pictures never appears."""
        with space_errors(self.path):
            if self.num_pictures:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if self.num_pictures:
                self._temporary.replace(self.path)
                sync_folder(self.path.parent)
        self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._container.close()
        self._temporary.unlink(missing_ok=True)


class Recording:
    """Everything from one press of the key to the next: `NAME.mp4` and `NAME.npz`."""

    def __init__(self, folder: Path, *, fps: float) -> None:
        self._path = unused(folder)
        self._film = Film(self._path.with_suffix(".mp4"), fps=fps)
        self._rows: dict[str, list[Any]] = {
            "frames": [],
            "actions": [],
            "rewards": [],
            "ends": [],
            "imagined": [],
        }

    def __len__(self) -> int:
        return len(self._rows["frames"])

    def add(self, picture: Picture, moment: Moment, *, is_imagined: bool) -> None:
        """Append what is shown and the moment behind it."""
        self._film.add(picture)
        row = (
            frame_of(moment),
            -1 if moment.action is None else moment.action,
            moment.reward,
            moment.is_over,
            is_imagined,
        )
        for name, value in zip(self._rows, row, strict=True):
            self._rows[name].append(value)

    def close(self) -> str:
        """Write both files and return what to tell. Nothing is written where nothing was added."""
        if not len(self):
            self._film.discard()
            return "nothing was recorded"
        self._film.close()
        write_atomically(
            self._path.with_suffix(".npz"), npz(**{k: np.array(v) for k, v in self._rows.items()})
        )
        return f"recorded {len(self)} steps: {self._path}.mp4 and .npz"


def save_trajectory(trajectory: Trajectory, folder: Path, *, fps: float, about: dict[str, str]) -> str:
    """Write a trajectory as mp4, npz and, to browse it with -e, as a file of episodes; return what to tell."""
    path = unused(folder)
    film = Film(path.with_suffix(".mp4"), fps=fps)
    for frame in trajectory.frames:
        film.add(fit(frame, FILM_SIDE))
    film.close()
    write_atomically(path.with_suffix(".npz"), npz(**trajectory.arrays()))
    write_atomically(
        path.with_suffix(".safetensors.zst"), encode_episodes([trajectory.episode()], metadata=about)
    )
    return f"saved {len(trajectory)} steps: {path}.mp4, .npz and .safetensors.zst"


def unused(folder: Path) -> Path:
    """Return a path in the folder, without suffix, named by the time, that nothing has yet."""
    base = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    number, path = 1, folder / base
    while path.with_suffix(".mp4").exists() or path.with_suffix(".npz").exists():
        number += 1
        path = folder / f"{base}_{number}"
    return path


def npz(**arrays: np.ndarray) -> bytes:
    """Return a compressed .npz file."""
    file = BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
