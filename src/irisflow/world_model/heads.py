"""What reads the backbone's outputs."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.kernels.transformer import can_classify, packed_perceptron, perceptron_pass
from irisflow.world_model.linear import Linear
from irisflow.world_model.packed import Packed, is_float, may_ask_kernels

MOST_ROWS = 256  # vectors that go through the kernel
IGNORED = -100  # a label that does not count


class Head(nn.Sequential):
    """Logits from one output vector: Linear, ReLU, Linear. Few vectors go through a kernel, where there is one."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__(Linear(embed_dim, embed_dim), nn.ReLU(), Linear(embed_dim, num_classes))
        self._sizes = (embed_dim, num_classes)
        self._weights = Packed()

    def forward(self, outputs: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch classes"]:
        """Return the logits."""
        if may_ask_kernels() and self._is_fit(outputs):
            return perceptron_pass(outputs, self._weights.of((self,), packed_perceptron), self._sizes[1])
        logits: Tensor = super().forward(outputs)  # type: ignore[no-untyped-call]
        return logits

    def _is_fit(self, outputs: Tensor) -> bool:
        """Return whether the kernel is for such tensors: not too many rows, float32 on a CPU."""
        layer = self[0]
        assert isinstance(layer, Linear)
        is_few = outputs.dim() == 2 and 0 < len(outputs) <= MOST_ROWS
        return is_few and is_float(outputs) and is_float(layer.weight) and can_classify(*self._sizes)


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
