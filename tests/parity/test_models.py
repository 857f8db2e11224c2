"""Our models reproduce the reference's numbers, and each check notices one changed number."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from checks_behaviour import check_actor_critic, check_returns
from checks_data import check_preprocess, check_segments
from checks_tokenizer import check_tokenizer
from checks_world_model import check_world_model
from fixture import FOLDER
from safetensors.torch import load_file, save_file
from torch import Tensor

from irisflow.plainly import as_torch_does

CHECKS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "preprocess": (check_preprocess,),
    "segments": (check_segments,),
    "tokenizer_weights": (check_tokenizer, check_world_model),
    "tokenizer_io": (check_tokenizer,),
    "world_model_weights": (check_world_model,),
    "world_model_io": (check_world_model,),
    "actor_critic_io": (check_actor_critic,),
    "returns": (check_returns,),
}
MODELS = [name for name in CHECKS if name not in ("preprocess", "segments")]  # those are in test_data.py
# A few members stand for many alike: each mutation costs up to a second.
SAMPLED = {"gradient_norm/": 4, "encoder.": 4, "decoder.": 4, "transformer.": 4}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The reference's numbers come from one thread; another count sums in another order."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize("way", [nullcontext, as_torch_does], ids=["fast", "plain"])
@pytest.mark.parametrize("name", ["tokenizer_io", "world_model_io", "actor_critic_io", "returns"])
def test_numbers_are_the_references(name: str, way: Callable[[], AbstractContextManager[None]]) -> None:
    with way():
        for check in CHECKS[name]:
            check(FOLDER)


def test_every_fixture_file_has_a_check() -> None:
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(CHECKS)


@pytest.mark.parametrize("name", MODELS)
def test_one_changed_number_is_noticed(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    tensors = load_file(FOLDER / f"{name}.safetensors")
    rng = np.random.default_rng(0)
    unnoticed = []
    idle = _idle_weights(name)
    for key in _sampled([key for key in tensors if key not in idle], rng):
        changed = _changed(name, key, tensors, rng)
        (tmp_path / f"{name}.safetensors").unlink()
        save_file(tensors | {key: changed}, tmp_path / f"{name}.safetensors")
        if not _is_noticed(name, tmp_path):
            unnoticed.append(key)
    assert not unnoticed


def _idle_weights(name: str) -> set[str]:
    """Return the weights that move no output: a bias before a normalisation, or one added to every key."""
    if not name.endswith("_weights"):
        return set()
    tensors = load_file(FOLDER / f"{name.removesuffix('_weights')}_io.safetensors")
    norms = {key: norm.item() for key, norm in tensors.items() if key.startswith("gradient_norm/")}
    return {
        key.removeprefix("gradient_norm/") for key, norm in norms.items() if norm < 1e-7 * max(norms.values())
    }


def _sampled(keys: list[str], rng: np.random.Generator) -> list[str]:
    """Return all keys, but only a few of each numerous kind."""
    chosen = [key for key in keys if not key.startswith(tuple(SAMPLED))]
    for prefix, count in SAMPLED.items():
        alike = [key for key in keys if key.startswith(prefix)]
        chosen += list(rng.choice(alike, min(count, len(alike)), replace=False))
    return chosen


def _changed(name: str, key: str, tensors: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
    """Return the tensor with one number changed that anything depends on."""
    tensor = tensors[key].clone()
    flat = tensor.view(-1)
    places = _places_that_matter(name, key, tensors)
    place = int(rng.choice(places))
    if tensor.dtype == torch.bool:
        flat[place] = ~flat[place]
    elif tensor.dtype == torch.uint8:
        flat[place] = flat[place] ^ 128
    elif tensor.dtype.is_floating_point:
        flat[place] += 0.1 * tensor.abs().max() + 0.1
    else:
        flat[place] += -1 if flat[place] == flat.max() else 1
    return tensor


def _places_that_matter(name: str, key: str, tensors: dict[str, Tensor]) -> np.ndarray:
    """Return the flat places but those that no other number depends on.

    These are: codes that no frame uses; the first value, the last reward and the last end. One pixel of
    the world model's frames may leave all tokens as they are: there the padded frames are changed.
    """
    tensor = tensors[key]
    matters = torch.ones(tensor.shape, dtype=torch.bool)
    if (name, key) == ("tokenizer_weights", "embedding.weight"):
        used = load_file(FOLDER / "tokenizer_io.safetensors")["tokens"].unique()
        matters[:] = torch.isin(torch.arange(len(tensor)), used)[:, None]
    elif name in ("returns", "actor_critic_io") and key.endswith(("rewards", "ends")):
        matters[:, -1] = False
    elif (name, key) == ("returns", "values"):
        matters[:, 0] = False
    elif (name, key) == ("world_model_io", "observations"):
        matters[:] = ~tensors["mask_padding"][..., None, None, None]
    return matters.view(-1).nonzero()[:, 0].numpy()


def _is_noticed(name: str, folder: Path) -> bool:
    for check in CHECKS[name]:
        try:
            check(folder)
        except (AssertionError, IndexError, RuntimeError):
            return True
    return False
