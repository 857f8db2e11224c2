"""Dropout of our own drops as often as torch's, and attention with it is torch's but for which weights are dropped."""

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom, chi2
from torch import Tensor
from torch.testing import assert_close

from irisflow.attention import attention
from irisflow.dropout import Dropout, dropout
from irisflow.plainly import as_torch_does

NUMBER = 1_000_000
KINDS = pytest.mark.parametrize("kind", [torch.float32, torch.float64])  # by the kernel, and without it
SHAPE = (2, 3, 17, 8)  # batch, heads, tokens, width


@KINDS
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_each_member_is_dropped_with_its_probability_and_the_rest_grows(p: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.full((NUMBER + 1,), 3.0, dtype=kind)  # an odd number: two members share 64 bits
    found = dropout(values, p)
    assert_close(found[found != 0].unique(), torch.tensor([3.0 / (1 - p)], dtype=kind))
    num_dropped = int((found == 0).sum())
    assert binom.cdf(num_dropped, NUMBER + 1, p) > 1e-6
    assert binom.sf(num_dropped, NUMBER + 1, p) > 1e-6


@KINDS
@pytest.mark.parametrize("apart", [1, 16])
def test_members_are_dropped_independently_of_others(kind: torch.dtype, apart: int) -> None:
    """Of groups of four, which share two draws, each of the 16 patterns is as frequent as it must be."""
    torch.manual_seed(1)
    p = 0.3
    kept = dropout(torch.ones(NUMBER, dtype=kind), p) != 0
    kept = kept.view(-1, 4, apart).transpose(1, 2).reshape(-1, 4)
    patterns = (kept.long() * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    found = torch.bincount(patterns, minlength=16).double()
    sizes = torch.tensor([bin(pattern).count("1") for pattern in range(16)])
    expected = len(kept) * (1 - p) ** sizes * p ** (4 - sizes)
    statistic = float(((found - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, 15) > 1e-4, statistic


@KINDS
def test_the_generator_decides_and_goes_on(kind: torch.dtype) -> None:
    ones = torch.ones(100, dtype=kind)
    torch.manual_seed(2)
    first, second = dropout(ones, 0.5), dropout(ones, 0.5)
    torch.manual_seed(2)
    assert torch.equal(first, dropout(ones, 0.5))
    assert not torch.equal(first, second)


@KINDS
def test_the_gradient_is_that_of_the_members_that_were_kept(kind: torch.dtype) -> None:
    values = torch.randn(1000, dtype=kind, requires_grad=True)
    found = dropout(values, 0.25)
    upstream = torch.randn_like(values)
    (gradient,) = torch.autograd.grad(found, values, upstream)
    assert_close(gradient, upstream * (found != 0) / 0.75)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_none_or_all_are_dropped(p: float) -> None:
    assert torch.equal(dropout(torch.ones(10), p), torch.full((10,), 1 - p))


def test_only_training_drops_and_the_plain_way_is_torchs() -> None:
    layer, values = Dropout(0.5), torch.ones(1000)
    assert torch.equal(layer.eval()(values), values)
    torch.manual_seed(3)
    with as_torch_does():
        plain = layer.train()(values)
    torch.manual_seed(3)
    assert torch.equal(plain, F.dropout(values, 0.5))


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(4)
    query, keys, values = (torch.randn(SHAPE, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return query, keys, values


def masks(kind: str) -> dict[str, Tensor | bool | None]:
    seen = torch.rand(SHAPE[2], SHAPE[2], generator=torch.Generator().manual_seed(5)) < 0.5
    seen |= torch.eye(SHAPE[2], dtype=torch.bool)
    return {
        "none": {},
        "causal": {"is_causal": True},
        "boolean": {"mask": seen},
        "added": {"mask": torch.randn(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)},
    }[kind]


@pytest.mark.parametrize("kind", ["none", "causal", "boolean", "added"])
def test_attention_that_drops_next_to_nothing_is_torchs(kind: str) -> None:
    inputs, options = drawn(), masks(kind)
    pair = attention(*inputs, **options, pdrop=1e-9), attention(*inputs, **options)
    assert_close(*pair)
    upstream = torch.randn(SHAPE, dtype=torch.float64)
    for ours, torchs in zip(*(torch.autograd.grad(made, inputs, upstream) for made in pair), strict=True):
        assert_close(ours, torchs)


@pytest.mark.parametrize("kind", ["none", "causal", "boolean", "added"])
def test_attention_that_drops_is_right_on_average(kind: str) -> None:
    """Weights are dropped after the softmax and grow, so that the mean over masks is attention without dropout."""
    inputs, options = drawn(), masks(kind)
    with torch.no_grad():
        draws = torch.stack([attention(*inputs, **options, pdrop=0.5) for _ in range(4000)])
        error = draws.std(dim=0) / len(draws) ** 0.5
        assert ((draws.mean(dim=0) - attention(*inputs, **options)).abs() < 5 * error + 1e-9).all()
        assert (draws.std(dim=0) > 0).all()
