"""What an interval around a mean over held-out frames or starts needs: sums over stretches of the recording.

Frames and starts that lie beside each other are alike, so an interval that took each for a case of its own would be too
narrow. Stretches of consecutive steps are resampled instead (a block bootstrap). A mean over resampled stretches is the
quotient of two sums, so that the sums of each stretch are all that has to be kept.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from irisflow.evaluation.held_out import HeldOut, Segments
from irisflow.evaluation.open_loop import Tables

MOST_STRETCHES = 32
Sums = dict[str, np.ndarray]


def num_stretches(recorded: HeldOut, *, num_starts: int) -> int:
    """Return into how many stretches a recording is cut: as many as there are starts, at most 32."""
    return min(MOST_STRETCHES, num_starts, len(recorded))


def frame_stretches(recorded: HeldOut, per_frame: Mapping[str, Float[Tensor, " steps"]], *, num: int) -> Sums:
    """Return `sum/METRIC` and `weight/METRIC` (how many frames) by stretch; NaN stands for a frame that was not compared."""
    stretches, found = _stretch_of(recorded, num), {}
    for metric, values in per_frame.items():
        has_value = ~values.isnan()
        found[f"sum/{metric}"] = _summed(values.nan_to_num(), stretches, num)
        found[f"weight/{metric}"] = _summed(has_value.double(), stretches, num)
    return found


def open_loop_stretches(
    recorded: HeldOut, cut: Segments, by_mode: Mapping[str, Tables], weights: Tables, *, num: int
) -> Sums:
    """Return `sum/METRIC/MODE` and `weight/METRIC` by stretch and horizon; a start counts where it lies."""
    stretches = _stretch_of(recorded, num)[cut.steps[:, 0]]
    found = {f"weight/{metric}": _summed(weight, stretches, num) for metric, weight in weights.items()}
    for mode, tables in by_mode.items():
        for metric, table in tables.items():
            counted = table * (weights[metric] > 0)  # tokens are counts, the others count once or not at all
            found[f"sum/{metric}/{mode}"] = _summed(counted, stretches, num)
    return found


def num_episodes(recorded: HeldOut) -> int:
    """Return of how many episodes a recording is."""
    return int((recorded.first_step == torch.arange(len(recorded), device=recorded.first_step.device)).sum())


def _stretch_of(recorded: HeldOut, num: int) -> Int64[Tensor, " steps"]:
    """Return the stretch of each step; stretches are equally long, as far as that goes."""
    return torch.arange(len(recorded), device=recorded.frames.device) * num // len(recorded)


def _summed(values: Tensor, stretches: Int64[Tensor, " cases"], num: int) -> np.ndarray:
    """Return the sums over the cases of each stretch: (stretches, ...)."""
    sums = torch.zeros(num, *values.shape[1:], dtype=torch.float64, device=values.device)
    return sums.index_add_(0, stretches, values.double()).float().cpu().numpy()
