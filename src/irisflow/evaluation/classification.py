"""How well classes are told apart where one of them is rare, and whether predicted probabilities are those that hold."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Confusion = Int64[Tensor, "classes classes"]


def confusion(
    predicted: Int64[Tensor, " cases"], real: Int64[Tensor, " cases"], *, num_classes: int
) -> Confusion:
    """Return how many cases of each real class (row) were predicted as each class (column)."""
    return torch.bincount(real * num_classes + predicted, minlength=num_classes**2).view(num_classes, -1)


def recalls(counts: Confusion) -> Float[Tensor, " classes"]:
    """Return the share of each class that was found; NaN for a class that never occurs."""
    return counts.diagonal() / counts.sum(dim=1)


def precisions(counts: Confusion) -> Float[Tensor, " classes"]:
    """Return the share of what was predicted as each class that is of it; NaN for one never predicted."""
    return counts.diagonal() / counts.sum(dim=0)


def macro_f1(counts: Confusion) -> float:
    """Return the mean of F1 over the classes that occur, each counting the same however rare."""
    f1 = 2 * counts.diagonal() / (counts.sum(dim=0) + counts.sum(dim=1))
    return float(f1[counts.sum(dim=1) > 0].mean())


def average_precision(scores: Float[Tensor, " cases"], is_positive: Bool[Tensor, " cases"]) -> float:
    """Return the mean precision at the rank of each positive case; cases of equal score share a rank.

    Scores without skill get the share of positive cases; a perfect order gets 1. NaN without positive cases.
    """
    order = scores.argsort(descending=True)
    ordered, positive = scores[order], is_positive[order].double()
    found = positive.cumsum(dim=0)
    precision = found / torch.arange(1, len(scores) + 1, device=scores.device)
    last_of_score = torch.searchsorted(-ordered, -ordered, right=True) - 1
    return float((precision[last_of_score] * positive).sum() / positive.sum())


def precisions_at_recalls(
    scores: Float[Tensor, " cases"], is_positive: Bool[Tensor, " cases"], percents: Sequence[int]
) -> tuple[Float[Tensor, " recalls"], Int64[Tensor, " recalls"]]:
    """Return precision at the highest threshold that reaches each recall, and how many cases are at or above it.

    Needs a positive case. Cases of equal score are on one side of every threshold: without skill, precision is the share of
    positive cases.
    """
    of_positives = scores[is_positive].sort(descending=True).values
    needed = [-(-percent * len(of_positives) // 100) for percent in percents]
    is_called = scores >= of_positives[torch.tensor(needed, device=scores.device) - 1, None]
    counts = is_called.sum(dim=1)
    return (is_called & is_positive).sum(dim=1).double() / counts, counts


class Calibration(NamedTuple):
    """By bin of predicted probability: the cases, their mean probability and the share that is positive; NaN without any."""

    counts: Int64[Tensor, " bins"]
    predicted: Float[Tensor, " bins"]
    occurred: Float[Tensor, " bins"]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean difference of the two over all cases, in absolute value."""
        differences = (self.predicted - self.occurred).abs().nan_to_num()
        return float((differences * self.counts).sum() / self.counts.sum())


def calibration(
    probabilities: Float[Tensor, " cases"], is_positive: Bool[Tensor, " cases"], edges: Sequence[float]
) -> Calibration:
    """Return the calibration in the bins that the inner edges cut from 0 to 1; an edge belongs to the bin above it."""
    given = probabilities.double()
    bins = torch.bucketize(given, torch.tensor(edges, dtype=given.dtype, device=given.device), right=True)
    is_in = bins[:, None] == torch.arange(len(edges) + 1, device=given.device)
    counts = is_in.sum(dim=0)
    predicted = (is_in * given[:, None]).sum(dim=0) / counts
    return Calibration(counts, predicted, (is_in & is_positive[:, None]).sum(dim=0).double() / counts)
