"""Reads parity fixtures and compares with them. Every tensor of a file has to be taken by its check."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("IRISFLOW_FIXTURES", Path(__file__).parents[1] / "fixtures"))
TOLERANCE, LOOSE = 1e-5, 1e-4  # of the largest magnitude; loose for reconstructions and losses of updates
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 1e-4, 0.01, 10.0


class Fixture:
    """One file's tensors; `finish` tells which were never looked at."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.left = load_file(folder / f"{name}.safetensors")

    def take(self, key: str) -> Tensor:
        return self.left.pop(key)

    def take_group(self, prefix: str) -> dict[str, Tensor]:
        keys = [key for key in self.left if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.left.pop(key) for key in keys}

    def take_images(self, key: str) -> Tensor:
        """Return uint8 images as floats in [0, 1]."""
        return self.take(key).float() / 255

    def finish(self) -> None:
        assert not self.left, f"{self.name}: never compared: {sorted(self.left)}"


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return {key: tensor.float() for key, tensor in load_file(folder / f"{name}.safetensors").items()}


def assert_near(actual: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Differences are measured in the expected tensor's largest magnitude."""
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    difference = (actual.double() - expected.double()).abs().max()
    bound = tolerance * expected.double().abs().max()
    assert difference <= bound, f"{what}: off by {difference:.3g}, allowed {bound:.3g}"


def assert_equal(actual: Tensor, expected: Tensor, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    assert torch.equal(actual, expected), f"{what} differs in {int((actual != expected).sum())} places"


def assert_zero_where(padding: Tensor, tensor: Tensor, what: str) -> None:
    assert not tensor[padding].any(), f"{what} is not zero on padding"


def gradient_norms(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: gradient.norm() for name, gradient in gradients.items()}


def global_norm(norms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(norms)).norm()


def assert_gradient_norms(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE
) -> None:
    """A norm below 1e-7 of the whole is rounding noise of an exact zero: only that is compared.

    (A bias right before a normalisation, or added to every key, has no gradient.)
    """
    assert actual.keys() == expected.keys(), sorted(actual.keys() ^ expected.keys())
    noise = 1e-7 * global_norm(expected.values())
    for name, norm in expected.items():
        difference = (actual[name].double() - norm.double()).abs()
        assert difference <= max(tolerance * norm.double(), noise), (
            f"gradient norm of {name}: {difference:.3g}"
        )
        assert norm >= 0, f"gradient norm of {name} is negative"
