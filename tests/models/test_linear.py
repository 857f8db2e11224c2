"""Our Linear gives torch's numbers, whichever way it takes."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from irisflow.linear import LEAST_PRODUCTS, LEAST_WEIGHTS, NUM_IMAGES, Linear
from irisflow.plainly import as_torch_does

WIDTH = 256
MANY = LEAST_PRODUCTS // (4 * WIDTH * WIDTH) // NUM_IMAGES * NUM_IMAGES + NUM_IMAGES


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def linear(request: pytest.FixtureRequest) -> Linear:
    torch.manual_seed(0)
    layer = Linear(WIDTH, 4 * WIDTH, bias=request.param)
    assert layer.weight.numel() >= LEAST_WEIGHTS
    return layer


def plainly(layer: Linear, rows: Tensor) -> Tensor:
    return nn.functional.linear(rows, layer.weight, layer.bias)


class Names(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.called.append(str(func))
        return func(*args, **(kwargs or {}))


def products(layer: Linear, rows: Tensor) -> set[str]:
    """Return the operators that multiply."""
    with Names() as names:
        layer(rows)
    known = ("_linear_pointwise", "convolution", "addmm", "mm", "linear")
    return {kind for name in names.called for kind in known if f"{kind}." in name}


@pytest.mark.parametrize("shape", [(1, WIDTH), (8, 1, WIDTH), (3, 5, WIDTH), (129, WIDTH), (MANY, WIDTH)])
def test_rows_are_multiplied_as_torch_does(linear: Linear, shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape)
    with torch.no_grad():
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)
        assert_close(linear(rows[..., :1, :]), plainly(linear, rows[..., :1, :]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_gradient", [False, True])
@pytest.mark.parametrize("shape", [(8, 1, WIDTH), (3, 5, WIDTH), (MANY, WIDTH)])
def test_what_follows_a_product_is_what_torch_does_after_it(
    linear: Linear, shape: tuple[int, ...], has_gradient: bool
) -> None:
    rows, before = torch.randn(shape), torch.randn(*shape[:-1], 4 * WIDTH)
    unchanged = before.clone()
    with torch.set_grad_enabled(has_gradient):
        product = plainly(linear, rows)
        assert_close(linear.gelu(rows), nn.functional.gelu(product), rtol=1e-5, atol=1e-5)
        assert_close(linear.added(rows, before), before + product, rtol=1e-5, atol=1e-5)
    assert torch.equal(before, unchanged)


def test_what_follows_a_product_is_done_with_it(linear: Linear) -> None:
    rows, before = torch.randn(8, WIDTH), torch.randn(8, 4 * WIDTH)
    with torch.no_grad(), Names() as names:
        linear.gelu(rows)
        linear.added(rows, before)
    kinds = [name for name in names.called if "reorder" not in name and "detach" not in name]
    assert len(kinds) == 2, kinds


@pytest.mark.parametrize("shape", [(MANY, WIDTH), (4, MANY // 4, WIDTH), (MANY + 1, WIDTH), (8, WIDTH)])
def test_gradients_are_torchs(linear: Linear, shape: tuple[int, ...]) -> None:
    rows, upstream = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 4 * WIDTH)
    wanted = [rows, *linear.parameters()]
    outputs = [way(rows) for way in (linear, lambda rows: plainly(linear, rows))]
    assert_close(*outputs, rtol=1e-5, atol=1e-5)
    found, expected = (torch.autograd.grad(output, wanted, upstream) for output in outputs)
    for ours, torchs in zip(found, expected, strict=True):
        assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_which_way_is_taken(linear: Linear, num_threads: int) -> None:
    """With gradient oneDNN convolves many rows; without, it multiplies; `as_torch_does` leaves all to torch."""
    many, few = torch.randn(MANY, WIDTH), torch.randn(8, WIDTH)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert products(linear, many) == {"convolution"}
        assert not products(linear, few) & {"convolution", "_linear_pointwise"}
        with torch.no_grad():
            assert products(linear, few) == products(linear, many) == {"_linear_pointwise"}, (
                "lost: slower now"
            )
            with as_torch_does():
                assert not products(linear, many) & {"convolution", "_linear_pointwise"}
    finally:
        torch.set_num_threads(before)


def test_a_weight_that_changed_in_place_or_was_loaded_is_seen(linear: Linear) -> None:
    rows = torch.randn(8, WIDTH)
    with torch.no_grad():
        linear(rows)
        linear.weight.mul_(2)
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)
        other = Linear(WIDTH, 4 * WIDTH, bias=linear.bias is not None).state_dict()
        linear.load_state_dict(other)
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-5)
        linear.weight.data = torch.randn_like(linear.weight)
        assert_close(linear(rows), plainly(linear, rows), rtol=1e-5, atol=1e-4)


def test_a_copy_has_weights_of_its_own(linear: Linear) -> None:
    rows = torch.randn(8, WIDTH)
    with torch.no_grad():
        before = linear(rows)
        other = copy.deepcopy(linear)
        other.weight.zero_()
        assert_close(
            other(rows), torch.zeros(8, 4 * WIDTH) if other.bias is None else other.bias.expand(8, -1)
        )
        assert_close(linear(rows), before)
