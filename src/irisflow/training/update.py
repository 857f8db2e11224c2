"""One optimisation step: accumulate, check, clip, step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from irisflow.errors import DivergedError
from irisflow.progress import progress
from irisflow.records import Loss


class Component:
    """One of the three trained parts, with its optimizer. `loss` draws a batch and returns its loss."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[], Loss],
        *,
        grad_acc_steps: int,
        max_grad_norm: float | None,
    ) -> None:
        self.name, self.module, self.optimizer, self.loss = name, module, optimizer, loss
        self.grad_acc_steps, self.max_grad_norm = grad_acc_steps, max_grad_norm
        self.num_updates = 0

    def train(self, num_updates: int, *, what: str) -> dict[str, float]:
        """Return the mean of each loss term over `num_updates` updates; the module is in eval mode afterwards.

        Raises DivergedError before a loss or gradient that is not finite touches the weights.
        """
        self.module.train()
        history = [self.update() for _ in progress(range(num_updates), what=what, unit="update")]
        self.module.eval()
        return mean_terms(history)

    def update(self) -> dict[str, torch.Tensor]:
        """Return the terms of one update, summed over the accumulated batches, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, torch.Tensor] = {}
        for _ in range(self.grad_acc_steps):
            loss = self.loss()
            (loss.total / self.grad_acc_steps).backward()  # type: ignore[no-untyped-call]
            for term, value in {**loss.terms, **loss.metrics}.items():
                summed[term] = summed.get(term, torch.zeros(())) + value.detach() / self.grad_acc_steps
            summed["total"] = summed.get("total", torch.zeros(())) + loss.total.detach() / self.grad_acc_steps
        summed["gradient_norm"] = self._checked_norm(summed)
        self.optimizer.step()
        self.num_updates += 1
        return summed

    def _checked_norm(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), limit)
        if not torch.isfinite(norm):
            found = ", ".join(f"{term} {float(value):g}" for term, value in terms.items())
            culprit = first_non_finite(self.module.named_parameters())
            raise DivergedError(
                f"{self.name} diverged at its update {self.num_updates + 1}: the gradient of {culprit} is not finite"
                f" ({found}). The weights were not touched; lower training.learning_rate, or look at the last batch."
            )
        return norm


def first_non_finite(parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    """Return the name of the first parameter whose gradient is not finite."""
    for name, parameter in parameters:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "all parameters together"


def mean_terms(history: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of every term over the updates, as numbers. An empty history gives no terms."""
    if not history:
        return {}
    return {
        term: float(torch.stack([terms[term].float() for terms in history]).mean()) for term in history[0]
    }
