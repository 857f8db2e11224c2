"""Other people's episodes made ours: every array checked, frames reduced as the environment reduces them."""

from collections.abc import Iterable, Iterator

import numpy as np
import psutil

from irisflow.data.foreign_episodes import RawEpisode, Source
from irisflow.envs.reduction import Reducer
from irisflow.errors import DataError, ResourceError
from irisflow.progress import progress
from irisflow.records import Episode

NOTHING = "Nothing was imported."
MIN_FREE_BYTES = 1 << 30


def import_episodes(source: Source, *, num_actions: int, size: int) -> list[Episode]:
    """Return a source's episodes with frames of size x size and actions from 0 to before `num_actions`.

    Raises DataError, naming the file, the episode and the array, for the first thing that is not as it must be.
    """
    number, first = source.actions or (num_actions, 0)
    if number != num_actions:
        raise DataError(
            f"{source.files[0].parent} has {number} actions, the game {num_actions}. Import it for the game that it was"
            f" recorded in. {NOTHING}"
        )
    raw = progress(source.read(), what="importing", unit="episode", total=source.num_episodes)
    episodes = list(_with_room(_episode(one, num_actions, first, size) for one in raw))
    if not episodes:
        raise DataError(f"{source.files[0]} has no episodes. {NOTHING}")
    return episodes


def first_steps(episodes: Iterable[Episode], num_steps: int | None) -> list[Episode]:
    """Return the first `num_steps` steps, or all for None. An episode that is cut is neither terminated nor truncated."""
    kept, missing = [], num_steps
    for episode in episodes:
        if missing == 0:
            break
        arrays = {name: array[:missing] for name, array in vars(episode).items()}
        kept.append(Episode(**arrays))
        missing = None if missing is None else missing - len(kept[-1])
    return kept


def _with_room(episodes: Iterator[Episode]) -> Iterator[Episode]:
    """Yield episodes as long as there is memory for more."""
    for number, episode in enumerate(episodes):
        if psutil.virtual_memory().available < MIN_FREE_BYTES + episode.observations.nbytes:
            raise ResourceError(
                f"memory is full after {number} episodes: an imported data set lies in memory as a whole. Import a part of"
                f" it. {NOTHING}"
            )
        yield episode


def _episode(raw: RawEpisode, num_actions: int, first_action: int, size: int) -> Episode:
    arrays, where = raw.arrays, raw.where
    actions = _actions(arrays["actions"], where) - first_action
    length = len(actions)
    if actions.min() < 0 or actions.max() >= num_actions:
        wrong = int(actions[(actions < 0) | (actions >= num_actions)][0]) + first_action
        allowed = f"{first_action} to {first_action + num_actions - 1}"
        raise _refusal(where, "actions", f"has the action {wrong}", f"those of the game, {allowed}")
    ends = {name: _flags(arrays[name], name, length, where) for name in ("terminations", "truncations")}
    return Episode(
        observations=_frames(arrays["observations"], length, size, where),
        actions=actions,
        rewards=_rewards(arrays["rewards"], length, where),
        terminated=ends["terminations"],
        truncated=ends["truncations"],
    )


def _actions(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise _refusal(where, "actions", f"is {_described(array)}", "integers [steps], 1 step or more")
    return array.astype(np.int64)


def _frames(array: np.ndarray, length: int, size: int, where: str) -> np.ndarray:
    """Return what was seen before each action, channel first; a frame after the last action is left out."""
    is_rgb = array.ndim == 4 and array.dtype == np.uint8 and array.shape[3] == 3 and min(array.shape) > 0
    if not is_rgb or len(array) not in (length, length + 1):
        allowed = f"uint8 frames [{length} or {length + 1}, height, width, 3]"
        raise _refusal(where, "observations", f"is {_described(array)}", allowed)
    reduce = Reducer(size)
    return np.stack([reduce(frame) for frame in array[:length]])


def _rewards(array: np.ndarray, length: int, where: str) -> np.ndarray:
    if array.shape != (length,) or array.dtype.kind not in "iufb":
        raise _refusal(where, "rewards", f"is {_described(array)}", f"numbers [{length}]")
    with np.errstate(over="ignore"):
        rewards = array.astype(np.float32)
    if not np.isfinite(rewards).all():
        step = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise _refusal(where, "rewards", f"is {array[step]} at step {step}", "finite numbers")
    return rewards


def _flags(array: np.ndarray, name: str, length: int, where: str) -> np.ndarray:
    if array.shape != (length,) or array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise _refusal(where, name, f"is {_described(array)}", f"true or false [{length}]")
    flags = array.astype(np.bool_)
    if flags[:-1].any():
        step = int(np.flatnonzero(flags)[0])
        found = f"is true at step {step} of {length}, and the episode goes on"
        raise _refusal(where, name, found, "true at the last step only: one episode ends there, the next is another one")
    return flags


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _refusal(where: str, name: str, found: str, allowed: str) -> DataError:
    return DataError(f"{where}: {name} {found}; allowed: {allowed}. {NOTHING}")
