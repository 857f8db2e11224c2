"""Weights of attention by the kernel are those of softmax and dropout one after the other, and so are their gradients."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow.dropout import least_kept, random_bits
from irisflow.kernels.attention import can_weigh, dropped_weights
from irisflow.world_model import attention as module
from irisflow.world_model.attention import attention

P = 0.3
SIZES = [(2, 3, 1, 1), (1, 2, 7, 7), (2, 1, 16, 16), (1, 1, 33, 33), (1, 2, 5, 40)]


def slowly(scores: Tensor, kept: Tensor, *, is_causal: bool) -> Tensor:
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1) * kept / (1 - P)


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_weights_and_gradients_are_those_in_double_precision(size: tuple[int, ...], is_causal: bool) -> None:
    torch.manual_seed(0)
    scores = (4 * torch.randn(size)).requires_grad_()
    wide = scores.detach().double().requires_grad_()
    assert can_weigh(scores)
    bits = random_bits(scores.numel()).view(size)
    found = dropped_weights(scores, bits, least=least_kept(P), scale=1 / (1 - P), is_causal=is_causal)
    expected = slowly(wide, bits >= least_kept(P), is_causal=is_causal)
    assert_close(found.double(), expected, rtol=0, atol=1e-6)
    upstream = torch.randn(size)
    found.backward(upstream)
    expected.backward(upstream.double())
    assert scores.grad is not None
    assert wide.grad is not None
    assert_close(scores.grad.double(), wide.grad, rtol=0, atol=3e-6)


def test_large_scores_do_not_overflow_and_a_gradient_may_lie_in_any_order() -> None:
    scores = torch.tensor([[[[500.0, 500.0, -500.0]]]], requires_grad=True)
    bits = torch.full((1, 1, 1, 3), 2**31 - 1, dtype=torch.int32)
    found = dropped_weights(scores, bits, least=0, scale=2.0, is_causal=False)
    assert_close(found, torch.tensor([[[[1.0, 1.0, 0.0]]]]))
    found.transpose(-1, -2).backward(torch.tensor([[[[1.0], [3.0], [5.0]]]]))
    assert_close(scores.grad, torch.tensor([[[[-1.0, 1.0, 0.0]]]]))


def test_attention_with_it_is_attention_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for has_kernel in (True, False):
        if not has_kernel:
            monkeypatch.setattr(module, "can_weigh", lambda _: False)
        torch.manual_seed(1)
        parts = [torch.randn(2, 4, 37, 16, requires_grad=True) for _ in range(3)]
        attended = attention(*parts, is_causal=True, pdrop=P)
        made.append((attended, *torch.autograd.grad(attended.square().sum(), parts)))
    for one, other in zip(*made, strict=True):
        assert_close(one, other, rtol=0, atol=1e-5)
