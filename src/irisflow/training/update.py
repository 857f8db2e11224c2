"""One optimisation step: accumulate, check, clip, step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from irisflow import faults, interruption
from irisflow.errors import DivergedError
from irisflow.progress import progress
from irisflow.records import Loss

Terms = dict[str, torch.Tensor]


class Component:
    """One of the three trained parts, with its optimizer. `loss` draws a batch and returns its loss.

    `precision` is float32, or bfloat16 for an autocast of the forward pass: weights and optimizer stay float32.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[], Loss],
        *,
        grad_acc_steps: int,
        max_grad_norm: float | None,
        precision: str = "float32",
    ) -> None:
        self.name, self.module, self.optimizer, self.loss = name, module, optimizer, loss
        self.grad_acc_steps, self.max_grad_norm = grad_acc_steps, max_grad_norm
        self.num_updates = 0
        self.device_type = next(module.parameters()).device.type
        self.is_mixed = precision == "bfloat16"

    def train(self, num_updates: int, *, what: str, history: list[Terms] | None = None) -> dict[str, float]:
        """Return the mean of each loss term over `num_updates` updates; the module is in eval mode afterwards.

        The updates whose terms are in `history` were done before; those of this call are appended to it, so that the
        call can be made again after a request to stop interrupted it. Raises DivergedError before a loss or gradient
        that is not finite touches the weights.
        """
        history = [] if history is None else history
        self.module.train()
        try:
            left = range(len(history), num_updates)
            for _ in progress(left, what=what, unit="update"):
                history.append(self.update())
                faults.point("update.done")
                interruption.check()
        finally:
            self.module.eval()
        return mean_terms(history)

    def update(self) -> Terms:
        """Return the terms of one update, summed over the accumulated batches, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        summed: Terms = {}
        for _ in range(self.grad_acc_steps):
            with torch.autocast(self.device_type, torch.bfloat16, enabled=self.is_mixed):
                loss = self.loss()
            (loss.total / self.grad_acc_steps).backward()  # type: ignore[no-untyped-call]
            for term, value in {**loss.terms, **loss.metrics, "total": loss.total}.items():
                summed[term] = summed.get(term, torch.zeros(())) + value.detach() / self.grad_acc_steps
        if faults.point("update.loss"):
            summed["total"] = summed["total"] * math.nan
        summed["gradient_norm"] = self._checked_norm(summed)
        self.optimizer.step()
        self.num_updates += 1
        return summed

    def _checked_norm(self, terms: Terms) -> torch.Tensor:
        """Return the gradient's norm before clipping. Raises DivergedError if it or a loss is not finite."""
        parameters = list(self.module.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if faults.point("update.gradient"):
            gradients[-1].mul_(math.nan)
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm + terms["total"]):  # the one place where an update waits for the device
            raise DivergedError(
                f"{self.name} diverged at its update {self.num_updates + 1}: {self._culprit(terms)} is not finite"
                f" ({', '.join(f'{term} {float(value):g}' for term, value in terms.items())})."
                " The weights were not touched."
            )
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        return norm

    def _culprit(self, terms: Terms) -> str:
        """Return the name of the loss term, or else of the parameter, in which the first bad number is."""
        bad = [term for term, value in terms.items() if not bool(torch.isfinite(value))]
        if bad:
            return f"the loss term {bad[0]}"
        return f"the gradient of {first_non_finite(self.module.named_parameters())}"


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


def stack_terms(history: list[Terms]) -> dict[str, torch.Tensor]:
    """Return each term of an unfinished phase as one tensor, for a checkpoint."""
    return {term: torch.stack([terms[term] for terms in history]) for term in history[0]} if history else {}


def unstack_terms(stacked: dict[str, torch.Tensor], device: torch.device) -> list[Terms]:
    """Return what `stack_terms` was given."""
    if not stacked:
        return []
    rows = zip(*(values.to(device).unbind() for values in stacked.values()), strict=True)
    return [dict(zip(stacked, row, strict=True)) for row in rows]
