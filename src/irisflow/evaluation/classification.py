"""How well classes are told apart where one of them is rare: recall, precision, F1 and average precision."""

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
