"""Group normalisation of maps in either layout, and the SiLU after it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.kernels.normalisation import can_normalise, normalised
from irisflow.kernels.use import is_channels_last

Map = Float[Tensor, "batch channels height width"]


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm; of maps channels last on a CPU it is computed by a kernel of `irisflow.kernels`.

    Torch's own is inexact there: it takes the variance as the mean of squares less the square of the mean, which loses
    digits where a mean is large against its spread (4e-4 in the latents of IRIS's fixtures).
    """

    def forward(self, maps: Map) -> Map:
        """Return the normalised maps, in the layout of the given ones."""
        return self._normalised(maps, has_silu=False)

    def silu(self, maps: Map) -> Map:
        """Return x times sigmoid(x) of the normalised maps."""
        return self._normalised(maps, has_silu=True)

    def _normalised(self, maps: Map, *, has_silu: bool) -> Map:
        if can_normalise(maps, self.weight, self.num_groups):
            return normalised(
                maps, self.weight, self.bias, num_groups=self.num_groups, eps=self.eps, has_silu=has_silu
            )
        made = super().forward(maps.contiguous())
        made = F.silu(made) if has_silu else made
        return made.contiguous(memory_format=torch.channels_last) if is_channels_last(maps) else made
