"""What is small and moves, such as a ball or a shot: found in the held-out frames alone, whatever the game.

The background is, for each pixel and colour, the median over the recording's frames (at most 256, evenly spread). An object
is what one frame has before it: neighbouring pixels (8-connected), at most 1/256 of the frame, each of which differs from
the background by more than 24 of 255 in a colour. A picture shows it if at least half of these pixels are, in RGB, nearer
to the object than to the background.

An object moves: frames 4 steps earlier and later, in the same episode, do not show it at that place. So nothing that rests
is one, and nothing that changes and stays as it is then. The same is asked of reconstructions: grey pictures, or balls at
all places, show every object at all times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from irisflow.evaluation.held_out import FRAMES_AT_ONCE, spread
from irisflow.records import Episode

GAP = 4  # steps
LEAST_DIFFERENCE = 24  # of 255
LARGEST_SHARE = 1 / 256  # of a frame's pixels: 16 of 64 x 64
LEAST_SHOWN = 0.5  # of an object's pixels
BACKGROUND_FRAMES = 256

Pictures = UInt8[Tensor, "steps 3 height width"]


@dataclass(frozen=True)
class SmallObjects:
    """The pixels of objects, a row each."""

    owners: Int64[Tensor, " pixels"]  # the number of the object, from 0
    steps: Int64[Tensor, " pixels"]
    places: Int64[Tensor, " pixels"]  # row by row
    colours: Float[Tensor, "pixels 3"]
    backgrounds: Float[Tensor, "pixels 3"]

    def __len__(self) -> int:
        return int(self.owners.max()) + 1 if len(self.owners) else 0

    def recall(self, pictures: Pictures) -> float:
        """Return the share of objects that move in pictures of all steps, too, at the same step and place."""
        return float(self.are_moving(pictures).double().mean())

    def are_moving(self, pictures: Pictures) -> Bool[Tensor, " objects"]:
        """Return which objects pictures show when they are there, and neither a gap earlier nor a gap later."""
        before, now, after = (self.are_shown(pictures, steps_later=gap) for gap in (-GAP, 0, GAP))
        return now & ~before & ~after

    def are_shown(self, pictures: Pictures, *, steps_later: int = 0) -> Bool[Tensor, " objects"]:
        """Return which objects pictures of all steps show at their places, at their steps or so many later."""
        drawn = pictures.flatten(2)[self.steps + steps_later, :, self.places].float()
        to_object, to_background = (
            (drawn - other).square().sum(dim=1) for other in (self.colours, self.backgrounds)
        )
        is_nearer = (to_object < to_background).double()
        return torch.bincount(self.owners, is_nearer) / torch.bincount(self.owners) >= LEAST_SHOWN

    def only(self, chosen: Bool[Tensor, " objects"]) -> Self:
        """Return the chosen objects."""
        numbers = chosen.cumsum(0) - 1
        kept = chosen[self.owners]
        rest = (each[kept] for each in (self.steps, self.places, self.colours, self.backgrounds))
        return type(self)(numbers[self.owners[kept]], *rest)


def small_objects(episodes: Sequence[Episode], *, device: torch.device) -> SmallObjects:
    """Return the objects of a recording."""
    frames = torch.from_numpy(np.concatenate([episode.observations for episode in episodes])).to(device)
    has_both = torch.cat([_has_neighbours(len(episode)) for episode in episodes]).to(device)
    objects = _all_objects(frames, has_both)
    return objects.only(objects.are_moving(frames))


def _has_neighbours(length: int) -> Bool[Tensor, " steps"]:
    """Return which steps of an episode have others one gap before and after them."""
    step = torch.arange(length)
    return (step >= GAP) & (step < length - GAP)


def _all_objects(frames: Pictures, chosen: Bool[Tensor, " steps"]) -> SmallObjects:
    """Return what is small in the chosen frames, whether it moves or not."""
    background = frames[spread(len(frames), most=BACKGROUND_FRAMES)].median(dim=0).values
    labels = []
    pieces = (torch.split(each, FRAMES_AT_ONCE) for each in (frames, chosen))
    for piece, is_chosen in zip(*pieces, strict=True):
        difference = piece.maximum(background) - piece.minimum(background)
        mask = difference.amax(dim=1) > LEAST_DIFFERENCE
        labels.append(_small_components(mask & is_chosen[:, None, None]))
    found = torch.cat(labels).flatten(1)
    step, place = found.nonzero(as_tuple=True)
    owners = torch.unique(step * (found.shape[1] + 1) + found[step, place], return_inverse=True)[1]
    colours, behind = frames.flatten(2)[step, :, place], background.flatten(1)[:, place].T
    return SmallObjects(owners, step, place, colours.float(), behind.float())


def _small_components(mask: Bool[Tensor, "images height width"]) -> Int32[Tensor, "images height width"]:
    """Return a label that the pixels of a component share, different ones within an image; 0 where it is too large.

    Each pixel takes the greatest label near it, as often as the largest size has pixels. Where a pixel then still sees a
    greater one, the component is larger.
    """
    largest = int(mask[0].numel() * LARGEST_SHARE)
    numbers = torch.arange(1, mask[0].numel() + 1, dtype=torch.int32, device=mask.device)
    inside = mask.int()
    labels = numbers.reshape(mask.shape[1:]) * inside
    for _ in range(largest):
        labels = _greatest_near(labels) * inside
    size = len(numbers) + 1
    unique = labels + size * torch.arange(len(mask), device=mask.device)[:, None, None]
    is_small = torch.bincount(unique.flatten(), minlength=size * len(mask)) <= largest
    is_small[unique[_greatest_near(labels) * inside > labels]] = False
    return labels * is_small[unique]


def _greatest_near(labels: Int32[Tensor, "images height width"]) -> Int32[Tensor, "images height width"]:
    """Return the greatest of each pixel and its eight neighbours."""
    padded = F.pad(labels, (1, 1, 1, 1))
    rows = padded[:, :-2].maximum(padded[:, 1:-1]).maximum(padded[:, 2:])
    return rows[:, :, :-2].maximum(rows[:, :, 1:-1]).maximum(rows[:, :, 2:])
