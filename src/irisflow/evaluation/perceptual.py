"""LPIPS of reconstructions: the published one, or none."""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from irisflow.errors import DataError
from irisflow.progress import say
from irisflow.tokenizer.reconstruction.lpips import IMAGENET_FILE, frozen_lpips, imagenet_trunk

MOST_FRAMES = 64  # that are looked at, evenly spread: 2 s of one core
FRAMES_AT_ONCE = 16

Images = UInt8[Tensor, "images 3 height width"]


def published_lpips(device: torch.device) -> nn.Module | None:
    """Return LPIPS on the VGG16 of ImageNet, or None where its weights are not on this machine: nothing is downloaded.

    Nothing is put in its place. docs/lpips-weights.md says where the file is looked for.
    """
    if not (Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE).is_file():
        return None
    try:
        return frozen_lpips(imagenet_trunk()).eval().to(device)
    except DataError as error:
        say(f"LPIPS is not measured: {error}")
        return None


@torch.no_grad()
def lpips_distances(network: nn.Module, images: Images, references: Images) -> Float[Tensor, " images"]:
    """Return each image's distance from its reference: 0 if they are equal, rarely above 1."""
    pieces = [torch.split(each, FRAMES_AT_ONCE) for each in (images, references)]
    found = [network(*(piece.float() / 127.5 - 1 for piece in pair)) for pair in zip(*pieces, strict=True)]
    return torch.cat(found).flatten()
