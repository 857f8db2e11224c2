"""Attention by the kernel is softmax, dropout and products one after the other, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow.attention import attention
from irisflow.kernels.attention import attended, can_attend
from irisflow.kernels.dropout import least_kept, random_key, random_words
from irisflow.plainly import as_torch_does

# batch, heads, tokens, width: one token, less than a tile of 32, whole tiles, more; widths of one and more vectors
SIZES = [(1, 1, 1, 16), (2, 3, 5, 16), (1, 2, 32, 32), (2, 2, 33, 48), (3, 1, 75, 64), (1, 2, 340, 64)]


def parts(size: tuple[int, ...], *, scale: float = 1.0) -> list[Tensor]:
    """Return query, keys and values that lie as those of one Linear."""
    batch, heads, tokens, width = size
    side_by_side = scale * torch.randn(batch, tokens, 3, heads, width)
    return [each.requires_grad_() for each in side_by_side.permute(2, 0, 3, 1, 4).unbind()]


def slowly(
    query: Tensor, keys: Tensor, values: Tensor, kept: Tensor | None, pdrop: float, *, is_causal: bool = True
) -> Tensor:
    """Return attention written out in double precision."""
    query, keys, values = (each.double() for each in (query, keys, values))
    scores = query @ keys.transpose(-1, -2) / query.shape[-1] ** 0.5
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    weights = scores.softmax(dim=-1)
    return (weights if kept is None else weights * kept / (1 - pdrop)) @ values


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("pdrop", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_attention_in_double_precision(size: tuple[int, ...], pdrop: float, is_causal: bool) -> None:
    torch.manual_seed(0)
    inputs = parts(size)
    assert can_attend(*inputs)
    state = torch.get_rng_state()
    batch, heads, tokens, _ = size
    words = random_words(batch * heads * tokens, tokens, random_key()).view(batch, heads, tokens, tokens)
    torch.set_rng_state(state)
    found = attended(*inputs, is_causal=is_causal, pdrop=pdrop)
    kept = words >= least_kept(pdrop) if pdrop else None
    expected = slowly(*inputs, kept, pdrop, is_causal=is_causal)
    assert_close(found.double(), expected, rtol=0, atol=2e-6)
    upstream = torch.randn(size)
    gradients = torch.autograd.grad(found, inputs, upstream)
    for own, exact in zip(gradients, torch.autograd.grad(expected, inputs, upstream.double()), strict=True):
        assert_close(own, exact, rtol=0, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    torch.manual_seed(1)
    inputs = parts((1, 2, 40, 16), scale=20.0)
    found = attended(*inputs, is_causal=True, pdrop=0.0)
    assert_close(found.double(), slowly(*inputs, None, 0.0), rtol=1e-4, atol=1e-3)
    assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum(), inputs))


@pytest.mark.parametrize("part", [0, 1])
def test_a_query_whose_scores_are_not_numbers_attends_to_none(part: int) -> None:
    inputs = parts((1, 1, 8, 16))
    with torch.no_grad():
        inputs[part][0, 0, 5, 3] = torch.nan
    found = attended(*inputs, is_causal=True, pdrop=0.0)
    assert found[0, 0, 5].isnan().all()
    assert found[0, 0, :5].isfinite().all()


def test_threads_and_gradients_change_nothing() -> None:
    inputs, num_threads = parts((2, 3, 50, 32)), torch.get_num_threads()
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(2)
        found = attended(*inputs, is_causal=True, pdrop=0.3)
        made.append([found, *torch.autograd.grad(found.square().sum(), inputs)])
    torch.set_num_threads(num_threads)
    torch.manual_seed(2)
    with torch.no_grad():
        assert torch.equal(attended(*inputs, is_causal=True, pdrop=0.3), made[0][0])
    for others in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], others, strict=True))


def test_parts_and_gradients_may_lie_in_any_order() -> None:
    torch.manual_seed(3)
    query, keys, values = (torch.randn(2, 3, 20, 16) for _ in range(3))
    inputs = [
        query.requires_grad_(),
        keys.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_(),
        values,
    ]
    found = attended(*inputs, is_causal=True, pdrop=0.0)
    upstream = torch.randn(16, 20, 3, 2).permute(3, 2, 1, 0)
    expected = F.scaled_dot_product_attention(*inputs, is_causal=True)
    assert_close(found, expected, rtol=0, atol=2e-6)
    pair = [torch.autograd.grad(made, inputs[:2], upstream) for made in (found, expected)]
    assert_close(*pair, rtol=0, atol=1e-5)


def test_attention_uses_it_where_it_can() -> None:
    inputs = parts((2, 4, 37, 16))
    kinds = {
        "kernel": attention(*inputs, is_causal=True),
        "dropping": attention(*inputs, is_causal=True, pdrop=0.1),
        "all": attention(*inputs),
        "masked": attention(*inputs, mask=torch.ones(37, 37, dtype=torch.bool).tril()),
        "narrow": attention(*parts((2, 4, 37, 8)), is_causal=True),
        "later": attention(inputs[0][:, :, -1:], *inputs[1:]),
    }
    by_kernel = [name for name, made in kinds.items() if "Attend" in str(made.grad_fn)]
    assert by_kernel == ["kernel", "dropping", "all"]
    with as_torch_does():
        plain = attention(*inputs, is_causal=True), attention(*inputs)
    assert_close((kinds["kernel"], kinds["all"]), plain, rtol=0, atol=2e-6)
