"""What every reconstruction term gives."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch 3 height width"]


@runtime_checkable
class ReconstructionTerm(Protocol):
    """A distance between images in [-1, 1]: its mean over the batch, times its weight."""

    def __call__(self, target: Images, prediction: Images) -> Float[Tensor, ""]:
        """Return the weighted distance; the gradient flows to the prediction."""
        ...
