"""One optimisation step: what it adds up, and what it refuses."""

import pytest
import torch
from torch import nn

from irisflow.errors import DivergedError
from irisflow.records import Loss
from irisflow.training.update import Component, mean_terms, stack_terms, unstack_terms


def component(value: float, *, grad_acc_steps: int = 1, max_grad_norm: float | None = None) -> Component:
    """Return a component of one weight 2.0 whose loss is `value` times the weight."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 2.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)

    def loss() -> Loss:
        return Loss({"linear": (module.weight * value).sum()})

    return Component(
        "toy", module, optimizer, loss, grad_acc_steps=grad_acc_steps, max_grad_norm=max_grad_norm
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("limit", [None, 10.0])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(value: float, limit: float | None) -> None:
    toy = component(value, max_grad_norm=limit)
    with pytest.raises(DivergedError, match=r"toy diverged at its update 1: the loss term linear is not fin"):
        toy.train(3, what="test")
    assert toy.module.weight.item() == 2.0 and toy.num_updates == 0


@pytest.mark.parametrize("limit", [None, 10.0])
def test_a_gradient_that_is_not_finite_names_its_parameter_before_the_weights_change(
    limit: float | None,
) -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    before = [parameter.clone() for parameter in module.parameters()]

    def loss() -> Loss:
        root = (module[1].weight * 0).sqrt().sum()  # 0, with a slope that is not finite
        return Loss({"root": root + module(torch.ones(1, 1)).sum()})

    optimizer = torch.optim.Adam(module.parameters())
    toy = Component("toy", module, optimizer, loss, grad_acc_steps=1, max_grad_norm=limit)
    with pytest.raises(
        DivergedError, match=r"toy diverged at its update 1: the gradient of 1\.weight is not"
    ):
        toy.update()
    assert all(map(torch.equal, before, module.parameters()))


def test_training_that_was_interrupted_goes_on_with_the_terms_it_has() -> None:
    whole, pieces = component(1.0), component(1.0)
    history: list[dict[str, torch.Tensor]] = []
    pieces.train(2, what="test", history=history)
    history = unstack_terms(stack_terms(history), torch.device("cpu"))
    assert pieces.train(5, what="test", history=history) == whole.train(5, what="test")
    assert pieces.num_updates == 5 and stack_terms([]) == {} and unstack_terms({}, torch.device("cpu")) == []


def test_accumulated_gradients_are_averaged() -> None:
    toy = component(1.0, grad_acc_steps=4)
    terms = toy.update()
    assert toy.module.weight.item() == pytest.approx(1.0)
    assert terms["total"].item() == pytest.approx(2.0)
    assert toy.num_updates == 1


@pytest.mark.parametrize(("limit", "expected"), [(None, -3.0), (10.0, -3.0), (0.5, 1.5)])
def test_the_gradient_is_clipped_to_its_limit(limit: float | None, expected: float) -> None:
    toy = component(5.0, max_grad_norm=limit)
    assert toy.update()["gradient_norm"].item() == pytest.approx(5.0)
    assert toy.module.weight.item() == pytest.approx(expected, abs=1e-4)


def test_training_reports_the_mean_of_its_updates_and_leaves_eval_mode() -> None:
    toy = component(1.0)
    assert toy.train(2, what="test")["linear"] == pytest.approx(1.5)  # 2.0, then 1.0
    assert not toy.module.training
    assert mean_terms([]) == {}
