"""Checks of the fixtures `preprocess` and `segments`: plain functions of the folder."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from irisflow.data.replay import ReplayBuffer
from irisflow.envs.reduction import resize
from irisflow.records import Episode

FIELDS = ("observations", "actions", "rewards", "ends", "mask_padding")


def check_preprocess(folder: Path) -> None:
    """Resized frames are equal, byte for byte."""
    tensors = load_file(folder / "preprocess.safetensors")
    size = json.loads((folder / "config.json").read_text())["scale"]["res"]
    assert set(tensors) == {"raw_frames", "resized_frames"}
    resized = np.stack([resize(frame, size) for frame in tensors["raw_frames"]])
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, tensors["resized_frames"].transpose(0, 3, 1, 2))


def check_segments(folder: Path) -> None:
    """Every cut of the episode is ours, padding included, and agrees with the one that holds the whole of it.

    A step that only that longest cut has (step 3 of the published file) is input and nothing else: no other
    number depends on it, so a change there cannot be told from another episode.
    """
    cuts = _cuts(load_file(folder / "segments.safetensors"))
    start, stop = max(cuts, key=lambda cut: cut[1] - cut[0])
    whole = cuts[start, stop]
    steps = np.flatnonzero(whole["mask_padding"])
    np.testing.assert_array_equal(steps + start, np.arange(len(steps)), "the longest cut holds the episode")
    replay = ReplayBuffer(2 * len(steps))
    replay.append(_episode({name: array[steps] for name, array in whole.items()}))
    for (begin, end), expected in cuts.items():
        batch = replay.segments(np.array([0]), np.array([begin]), end - begin)
        np.testing.assert_array_equal(batch.observations[0].mul(255).round().byte(), expected["observations"])
        np.testing.assert_array_equal(batch.actions[0], expected["actions"])
        np.testing.assert_array_equal(batch.rewards[0], expected["rewards"])
        np.testing.assert_array_equal(batch.ends[0], expected["ends"])
        np.testing.assert_array_equal(batch.mask[0], expected["mask_padding"])


def _cuts(tensors: dict[str, np.ndarray]) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    cuts: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        place, name = key.split("/")
        start, stop = map(int, place.split(":"))
        cuts.setdefault((start, stop), {})[name] = tensor
    assert all(set(cut) == set(FIELDS) for cut in cuts.values())
    return cuts


def _episode(fields: dict[str, np.ndarray]) -> Episode:
    """The README fixes actions and ends: actions 0, 1, 2, ..., one end at the last step."""
    num_steps = len(fields["actions"])
    np.testing.assert_array_equal(fields["actions"], np.arange(num_steps))
    np.testing.assert_array_equal(fields["ends"], np.arange(num_steps) == num_steps - 1)
    return Episode(
        fields["observations"],
        fields["actions"],
        fields["rewards"],
        fields["ends"].astype(np.bool_),
        np.zeros(num_steps, np.bool_),
    )
