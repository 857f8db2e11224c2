"""LPIPS, the perceptual distance of Zhang et al. (2018) on VGG16 features. IRIS, section 2.1.

Trunk `imagenet` is the published LPIPS. It needs torchvision's `vgg16-397923af.pth` (528 MB), looked for in
`$TORCH_HOME/hub/checkpoints` (default `~/.cache/torch/hub/checkpoints`) and else downloaded there. Trunk
`shift_tolerant` works without a network: the VGG16 of ShiftTolerant-LPIPS, from the package stlpips-pytorch,
under LPIPS's published heads. That is a perceptual distance, but NOT the published LPIPS: its values are not
those of others.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.convolution import Conv3x3
from irisflow.dropout import Dropout
from irisflow.errors import ConfigError, DataError, ResourceError
from irisflow.progress import say
from irisflow.tokenizer.reconstruction.base import Pictures

LEAST = {"weight": 0}
KEY = "tokenizer.reconstruction.lpips.trunk"
IMAGENET_FILE, IMAGENET_SHA256 = "vgg16-397923af.pth", "397923af"
SHIFT_TOLERANT_FILE = "weights/vST0.0/vgg_shift_tolerant.pth"
SHIFT_TOLERANT_SHA256 = "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"
HEADS_FILE = "weights/v0.1/vgg.pth"
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"


@dataclass(frozen=True)
class Config:
    """Weight in the loss; whose VGG16; whether the heads' dropout acts in training, as it does in IRIS."""

    weight: float = 1.0
    trunk: str = "imagenet"
    dropout: bool = True


def build(config: Config) -> "PerceptualDistance":
    """Return the term, its network not yet loaded. Raises ConfigError for a trunk that does not exist."""
    trunks = {"imagenet": imagenet_trunk, "shift_tolerant": shift_tolerant_trunk}
    if config.trunk not in trunks:
        raise ConfigError(f"{KEY}: {config.trunk!r} does not exist. Allowed: {', '.join(trunks)}.")
    trunk = trunks[config.trunk]
    return PerceptualDistance(lambda: frozen_lpips(trunk()), weight=config.weight, has_dropout=config.dropout)


class PerceptualDistance(nn.Module):
    """LPIPS of image pairs. The frozen network is no submodule: checkpoints and optimizers do not see it.

    `make` returns it when it is first wanted: who only plays, evaluates or imports an agent needs none of its weights.
    """

    def __init__(self, make: Callable[[], nn.Module], *, weight: float, has_dropout: bool) -> None:
        super().__init__()
        self.weight = weight
        self.has_dropout = has_dropout
        self._make, self._unregistered = make, list[nn.Module]()

    def load(self) -> nn.Module:
        """Return the network, loaded now if it was not. Raises DataError or ResourceError if the trunk cannot be had."""
        if not self._unregistered:
            self._unregistered.append(self._make())
        return self._unregistered[0]

    def forward(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted mean distance of images in [-1, 1]."""
        network = self.load()
        if (
            next(network.parameters()).device != pictures.target.device
        ):  # it was loaded after the tokenizer moved
            network.to(pictures.target.device)
        network.train(self.training and self.has_dropout)
        distances: Tensor = network(pictures.target, pictures.prediction)
        return self.weight * distances.mean()

    def _apply(self, fn: Any, recurse: bool = True) -> "PerceptualDistance":
        for network in self._unregistered:
            network._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def frozen_lpips(trunk: list[Tensor]) -> nn.Module:
    """Return LPIPS with its published heads on a VGG16 trunk, given as 13 times weight and bias."""
    import lpips

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # draws and allocates nothing
        network: nn.Module = lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
        for layers in network.get_submodule("net").children():
            assert isinstance(layers, nn.Sequential)
            for name, layer in layers.named_children():
                if isinstance(layer, nn.Conv2d):
                    setattr(layers, name, Conv3x3(layer.in_channels, layer.out_channels))
    heads = read_weights(package_folder("lpips") / HEADS_FILE, HEADS_SHA256)
    names = [name for name in network.state_dict() if name.startswith("net.")]
    weights = dict(zip(names, trunk, strict=True))
    for name, head in heads.items():
        weights[name] = weights[name.replace("lin", "lins.", 1)] = head
    network.load_state_dict(network.state_dict() | weights, assign=True)
    for level in network.get_submodule("lins").children():
        layers = level.get_submodule("model")
        assert isinstance(layers, nn.Sequential) and isinstance(layers[0], nn.Dropout)
        layers[0] = Dropout(layers[0].p)
    return network.requires_grad_(False)


def imagenet_trunk() -> list[Tensor]:
    """Return the convolutions of torchvision's VGG16, downloaded if torch hub does not hold them yet."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        weights = read_weights(folder / IMAGENET_FILE, IMAGENET_SHA256)
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"{KEY}=imagenet: {IMAGENET_FILE} is not in {folder} and cannot be downloaded ({error})."
            f" Copy it there, or switch to `{KEY}=shift_tolerant` (not the published LPIPS)"
            " or to `reconstruction=l1`."
        ) from None
    return [tensor for name, tensor in weights.items() if name.startswith("features.")]


def shift_tolerant_trunk() -> list[Tensor]:
    """Return the convolutions of ShiftTolerant-LPIPS's VGG16; say that this is not the published LPIPS."""
    weights = read_weights(package_folder("stlpips_pytorch") / SHIFT_TOLERANT_FILE, SHIFT_TOLERANT_SHA256)
    say(f"{KEY}=shift_tolerant: a perceptual distance on other VGG16 weights, NOT the published LPIPS")
    return [
        tensor
        for name, tensor in weights.items()
        if name.startswith("net.") and name.endswith((".weight", ".bias"))
    ]


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a weight file that torchvision's server or a wheel provides.

    A file that is there is checked against the digest (or its first digits), else DataError, before torch.hub
    reads it where it lies. One that is not there is fetched from pytorch.org and checked by torch.hub.
    """
    if path.exists():
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if not found.startswith(sha256):
            raise DataError(
                f"{path} is damaged or another file: its sha256 starts with {found[:8]}, not {sha256[:8]}."
                " Delete it, then download or install it again."
            )
    weights: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
        f"https://download.pytorch.org/models/{path.name}",
        model_dir=str(path.parent),
        map_location="cpu",
        check_hash=True,
        weights_only=True,
        progress=False,
    )
    return weights


def package_folder(package: str) -> Path:
    """Return the folder of an installed package. Raises ResourceError if it is not installed."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ResourceError(
            f"tokenizer.reconstruction.lpips: the package {package} is not installed."
            f" Install it with `pip install {package.replace('_', '-')}`, or switch to `reconstruction=l1`."
        )
    return Path(found.origin).parent
