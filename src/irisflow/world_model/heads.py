"""What reads the backbone's outputs."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.kernels.kept import Kept
from irisflow.kernels.transformer import can_classify, packed_perceptron, perceptron_pass
from irisflow.linear import Linear

MOST_ROWS = 256  # vectors that go through the kernel
IGNORED = -100  # a label that does not count


class Head(nn.Sequential):
    """Logits from one output vector: Linear, ReLU, Linear. Few vectors go through a kernel, where there is one."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(Linear(embed_dim, embed_dim), nn.ReLU(), Linear(embed_dim, num_classes))
        self.num_classes = num_classes
        self._packed = Kept()

    def forward(self, outputs: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch classes"]:
        """Return the logits."""
        weights = self.packed_for(outputs)
        if weights is not None:
            return perceptron_pass(outputs, weights, self.num_classes)
        logits: Tensor = super().forward(outputs)  # type: ignore[no-untyped-call]
        return logits

    def packed_for(self, outputs: Float[Tensor, "*batch embed"]) -> Tensor | None:
        """Return the weights in the kernel's order, or None where torch must read these outputs."""
        first, _, last = self
        assert isinstance(first, Linear)
        assert isinstance(last, Linear)
        is_few = outputs.dim() == 2 and 0 < len(outputs) <= MOST_ROWS and not torch.is_grad_enabled()
        if not (is_few and can_classify(outputs, last.weight)):
            return None
        parameters = [first.weight, first.bias, last.weight, last.bias]
        return self._packed.of(parameters, partial(packed_perceptron, parameters))


def cross_entropy(
    logits: Float[Tensor, "*targets classes"], targets: Int64[Tensor, "*targets"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in float32, over the targets that count."""
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def labels(
    classes: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Int64[Tensor, "batch time"]:
    """Return the classes where the mask is true, and `IGNORED` elsewhere."""
    return classes.masked_fill(~mask, IGNORED)
