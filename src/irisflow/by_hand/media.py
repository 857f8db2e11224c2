"""What a run leaves to look at: episodes in the project's own format, and reconstructions as pictures.

Saving the same epoch again changes nothing, so that a run that was killed and goes on has the files of one that was not.
"""

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine
from irisflow.data.episodes import encode_episodes, load_episodes
from irisflow.data.replay import ReplayBuffer
from irisflow.errors import DataError
from irisflow.randomness import numpy_stream, torch_stream
from irisflow.records import Episode
from irisflow.storage import write_atomically
from irisflow.tokenizer.tokenizer import Tokenizer

SUFFIX = ".safetensors.zst"
NAME = re.compile(r"(best_)?episode_(\d+)_epoch_(\d+)\.safetensors\.zst")
GAP, PAPER = 2, 255  # pixels between pictures, and their colour
NUM_SEGMENTS = 3  # IRIS shows as many


class EpisodeFolder:
    """One file an episode: the newest `max_num` of them, and the one with the highest return so far.

    `episode_NUMBER_epoch_EPOCH` and `best_episode_...`, as IRIS names them. An episode that goes on in the next epoch is
    replaced. With `max_num` 0 nothing is saved.
    """

    def __init__(self, folder: Path, *, max_num: int, notes: Mapping[str, str]) -> None:
        self.folder, self.max_num, self.notes = folder, max_num, dict(notes)
        for left_by_a_kill in folder.glob(".*.tmp"):
            left_by_a_kill.unlink()

    def save(self, episode: Episode, *, number: int, epoch: int, is_finished: bool = True) -> None:
        """Save an episode. Raises ResourceError where the disk refuses."""
        if not self.max_num:
            return
        notes = {**self.notes, "epoch": str(epoch), "episode": str(number), "return": f"{episode.score:g}"}
        data = encode_episodes([episode], metadata=notes)
        name = f"episode_{number}_epoch_{epoch}{SUFFIX}"
        write_atomically(self.folder / name, data)
        self._drop(number, name)
        if is_finished and episode.score > self._best_return():
            earlier = self._named(is_best=True)
            write_atomically(self.folder / f"best_{name}", data)
            for path in set(earlier.values()) - {self.folder / f"best_{name}"}:
                path.unlink()

    def _drop(self, number: int, name: str) -> None:
        """Remove an older state of this episode, and the episodes that are too many."""
        for path in self.folder.glob(f"episode_{number}_epoch_*{SUFFIX}"):
            if path.name != name:
                path.unlink()
        saved = self._named(is_best=False)
        for oldest in sorted(saved)[: -self.max_num]:
            saved[oldest].unlink()

    def _named(self, *, is_best: bool) -> dict[int, Path]:
        """Return the saved episodes by number."""
        matches = [(path, NAME.fullmatch(path.name)) for path in self.folder.iterdir()]
        return {int(match[2]): path for path, match in matches if match and bool(match[1]) == is_best}

    def _best_return(self) -> float:
        """Return the best episode's return; minus infinity where there is none, or it cannot be read."""
        returns = [-np.inf]
        for path in self._named(is_best=True).values():
            try:
                returns += [episode.score for episode in load_episodes(path)[0]]
            except DataError:
                continue
        return max(returns)


@torch.no_grad()
def imagined_episodes(
    agent: Agent, dataset: ReplayBuffer, *, num: int, horizon: int, burn_in: int, seed: int, epoch: int
) -> list[Episode]:
    """Return what the agent does in its world model, from `num` random moments of a dataset on.

    Frames are the tokenizer's reconstructions; each episode is cut after its first imagined end. The random streams are
    those of this epoch's imagination to look at, and no other's.
    """
    device = next(agent.parameters()).device
    batch = dataset.sample(num, burn_in + 1, anchor="end", rng=numpy_stream(seed, "imagined starts", epoch))
    generator = torch_stream(seed, "imagined to look at", epoch, device=device)
    rollout = imagine(agent, batch.to(device), horizon=horizon, generator=generator)
    views = rollout.views
    if agent.actor_critic.sees == "codes":
        views = torch.stack([agent.tokenizer.draw(codes) for codes in views])
    frames = (views * 255).round().byte().cpu().numpy()
    actions, rewards = rollout.actions.cpu().numpy(), rollout.rewards.float().cpu().numpy()
    ends = rollout.ends.cpu().numpy()
    return [_until_end(*fields) for fields in zip(frames, actions, rewards, ends, strict=True)]


def _until_end(frames: np.ndarray, actions: np.ndarray, rewards: np.ndarray, ends: np.ndarray) -> Episode:
    length = int(ends.argmax()) + 1 if ends.any() else len(ends)
    return Episode(
        frames[:length], actions[:length], rewards[:length], ends[:length], np.zeros(length, np.bool_)
    )


@torch.no_grad()
def reconstruction_sheet(
    tokenizer: Tokenizer, dataset: ReplayBuffer, *, length: int, seed: int, epoch: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a picture of random segments of a dataset: in each, frames from left to right, reconstructions below them."""
    rng = numpy_stream(seed, "reconstructed", epoch)
    batch = dataset.sample(NUM_SEGMENTS, length, anchor="start", rng=rng)
    device = next(tokenizer.parameters()).device
    frames = batch.frames.to(device)
    drawn = tokenizer.reconstruct(frames) * batch.mask.to(device)[:, :, None, None, None]
    pairs = torch.stack([frames, drawn], dim=1)  # segments, 2, time, 3, height, width
    return _sheet((pairs * 255).round().byte().cpu().numpy().transpose(0, 1, 2, 4, 5, 3))


def _sheet(
    pairs: UInt8[np.ndarray, "segments two time size size 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    num_segments, num_rows, length, size = pairs.shape[:4]
    row, between = size + GAP, 4 * GAP
    height = num_segments * (num_rows * row + between) - between + GAP
    sheet = np.full((height, length * row + GAP, 3), PAPER, np.uint8)
    for index in np.ndindex(num_segments, num_rows, length):
        top = index[0] * (num_rows * row + between) + index[1] * row + GAP
        left = index[2] * row + GAP
        sheet[top : top + size, left : left + size] = pairs[index]
    return sheet


def save_picture(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a PNG, whole or not at all."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "png", optimize=False)
    write_atomically(path, file.getvalue())
