"""Episodes that others recorded, as their files have them: Minari's data sets, our own format, one .npz an episode.

What is read here is not checked yet (`importing` does that). No code from a file runs, and nothing is fetched.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irisflow.data.episodes import load_episodes
from irisflow.errors import DataError, ResourceError

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
OWN_SUFFIX = ".safetensors.zst"
MINARI_METADATA = "metadata.json"
ALLOWED = (
    "Allowed: a data set of Minari (its folder, or its name in the local store), a folder of .npz files with one episode each,"
    f" or files of this project ({OWN_SUFFIX})."
)


@dataclass(frozen=True)
class RawEpisode:
    """One episode: `where` names file and episode in messages, `arrays` has the FIELDS, frames channel last."""

    where: str
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """Recorded episodes to import. `actions` is what the data set itself says of its actions: number and first one."""

    kind: str
    files: list[Path]
    num_episodes: int | None
    read: Callable[[], Iterator[RawEpisode]]
    actions: tuple[int, int] | None = None


def find_source(name: str) -> Source:
    """Return what a SOURCE on the command line means. Raises DataError if it holds no episodes that can be read."""
    path = Path(name).expanduser()
    if not path.exists():
        local = _minari_root() / name / "data"
        if not local.is_dir():
            raise DataError(f"{name} is neither a file or folder nor a data set in {_minari_root()}. {ALLOWED}")
        return _minari(local)
    for folder in (path, path / "data"):
        if (folder / MINARI_METADATA).is_file():
            return _minari(folder)
    own, archives = _files(path, OWN_SUFFIX), _files(path, ".npz")
    if bool(own) == bool(archives):
        found = "both kinds of episodes" if own else "no episodes"
        raise DataError(f"{path} holds {found}. {ALLOWED}")
    if own:
        return Source("irisflow", own, None, lambda: _own_episodes(own))
    return Source("npz", archives, len(archives), lambda: map(_npz_episode, archives))


def _files(path: Path, suffix: str) -> list[Path]:
    """Return the file itself, or a folder's files, whose names end so; numbers in names are counted, not spelled."""
    found = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sorted((file for file in found if file.name.endswith(suffix)), key=_natural)


def _natural(file: Path) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, file.name.split(".")[0]))
    return int(digits or 0), file.name


def _own_episodes(files: list[Path]) -> Iterator[RawEpisode]:
    """Yield the episodes of files in the project's own format."""
    for file in files:
        for number, episode in enumerate(load_episodes(file)[0]):
            arrays = {
                "observations": episode.observations.transpose(0, 2, 3, 1),
                "actions": episode.actions,
                "rewards": episode.rewards,
                "terminations": episode.terminated,
                "truncations": episode.truncated,
            }
            yield RawEpisode(f"{file}, episode {number}", arrays)


def _npz_episode(file: Path) -> RawEpisode:
    """Return the episode of one NumPy archive. Pickled objects are refused."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [name for name in FIELDS if name not in archive.files]
            arrays = {name: archive[name] for name in FIELDS if name not in missing}
    except MemoryError:
        raise ResourceError(f"{file} needs more memory than there is.") from None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file} is damaged or no NumPy archive: {_said(error)}.") from None
    if missing:
        raise DataError(f"{file} lacks {', '.join(missing)}. An episode has {', '.join(FIELDS)}.")
    return RawEpisode(str(file), arrays)


def _minari_root() -> Path:
    """Return where Minari keeps data sets on this machine."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets").expanduser()


def _minari(folder: Path) -> Source:
    """Return a data set of Minari: `folder` has its metadata.json and the data.

    A data set that does not state its spaces is refused: Minari would make the environment that it names to find out.
    """
    metadata = _metadata(folder / MINARI_METADATA)
    where = folder.parent if folder.name == "data" else folder
    missing = [k for k in ("observation_space", "action_space", "data_format") if not isinstance(metadata.get(k), str)]
    if missing:
        raise DataError(f"{folder / MINARI_METADATA} does not state {', '.join(missing)}.")
    try:
        from minari.dataset.minari_storage import MinariStorage

        storage = MinariStorage.read(folder)
    except ImportError as error:
        raise DataError(f"{where} has the format {metadata['data_format']}: {_said(error)}") from None
    except Exception as error:  # whatever Minari raises over damaged files
        raise DataError(f"{where} is damaged or no data set of Minari: {_said(error)}.") from None
    _check_frames(storage.observation_space, where)
    num_episodes = metadata.get("total_episodes")
    if type(num_episodes) is not int or num_episodes < 1:
        raise DataError(f"{folder / MINARI_METADATA}: total_episodes is {num_episodes!r}; allowed: 1 or more.")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return Source(
        "minari", files, num_episodes, lambda: _minari_episodes(storage, num_episodes, where),
        _discrete(storage.action_space, where),
    )  # fmt: skip


def _metadata(file: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged: {_said(error)}.") from None
    if not isinstance(metadata, dict):
        raise DataError(f"{file} is no metadata of Minari: it holds a {type(metadata).__name__}.")
    return metadata


def _minari_episodes(storage: Any, num_episodes: int, where: Path) -> Iterator[RawEpisode]:
    """Yield a data set's episodes."""
    episodes = iter(storage.get_episodes(range(num_episodes)))
    for number in range(num_episodes):
        try:
            episode = next(episodes)
            arrays = {name: np.asarray(episode[name]) for name in FIELDS}
        except MemoryError:
            raise ResourceError(f"{where}, episode {number} needs more memory than there is.") from None
        except Exception as error:  # whatever Minari, HDF5 and Pillow raise over damaged files
            raise DataError(f"{where}, episode {number} is damaged: {_said(error)}.") from None
        yield RawEpisode(f"{where}, episode {number}", arrays)


def _check_frames(space: Any, where: Path) -> None:
    """Raise DataError unless a data set's observations are RGB frames."""
    from gymnasium.spaces import Box

    if not (isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] == 3):
        raise DataError(
            f"{where} has observations {_short(space)}; allowed: RGB frames, uint8 [height, width, 3]. Record the data set"
            " again with the environment's pictures as observations."
        )


def _discrete(space: Any, where: Path) -> tuple[int, int]:
    """Return number and first of a data set's actions. Raises DataError if they are not discrete."""
    from gymnasium.spaces import Discrete

    if not isinstance(space, Discrete):
        raise DataError(f"{where} has actions {_short(space)}; allowed: discrete ones, Discrete(n).")
    return int(space.n), int(space.start)


def _short(value: object) -> str:
    return " ".join(str(value).split())[:120]


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:160].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
