"""What every reconstruction term gives."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from irisflow.records import Loss

Images = Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True)
class Pictures:
    """Images in [-1, 1]: what was to be drawn, what was drawn (not clamped), and what was seen one step before the first.

    At the first step of an episode the previous image is the target itself.
    """

    target: Images
    prediction: Images
    previous: Images | None = None  # None where no term of the tokenizer needs it


@runtime_checkable
class ReconstructionTerm(Protocol):
    """A distance between images: its mean over the batch, times its weight.

    A class that reads `pictures.previous` says `needs_previous = True`.
    """

    def __call__(self, pictures: Pictures) -> Float[Tensor, ""]:
        """Return the weighted distance; the gradient flows to the prediction."""
        ...


@runtime_checkable
class NeedsFiles(Protocol):
    """A term with weights that others trained, loaded when they are first wanted."""

    def load(self) -> nn.Module:
        """Return the network, loaded now if it was not. Raises DataError or ResourceError if its weights cannot be had."""
        ...


@runtime_checkable
class AdversarialTerm(Protocol):
    """A term with a network of its own that learns beside the tokenizer, by the same optimizer."""

    is_adversarial: bool

    def __call__(self, pictures: Pictures, *, others: Float[Tensor, ""], last_layer: nn.Parameter) -> Loss:
        """Return the term for the tokenizer, that for the network, and what is to be watched.

        `others` is the sum of the other terms, `last_layer` the weight of the decoder's last convolution. No gradient of
        the tokenizer's term reaches the network, none of the network's the tokenizer.
        """
        ...
