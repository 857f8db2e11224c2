"""Pretraining of one component on recorded episodes, outside IRIS's epochs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from irisflow import faults, interruption, schema
from irisflow.data.replay import ReplayBuffer
from irisflow.errors import DivergedError
from irisflow.initialization.weights import check_fit
from irisflow.interruption import Interrupted
from irisflow.progress import progress, say
from irisflow.provenance import Cost
from irisflow.records import Episode, Loss
from irisflow.training.checkpoint import Checkpoints, optimizer_state, restore_optimizer
from irisflow.training.update import Component, Terms, mean_terms, stack_terms, unstack_terms

NUM_REPORTS = 20


@dataclass(frozen=True)
class Pretrained:
    """What pretraining gave: rows of mean losses, one for each twentieth of the updates."""

    metrics: list[dict[str, float]]
    num_updates: int


def as_replay(episodes: list[Episode], *, time_limit_is_end: bool) -> ReplayBuffer:
    """Return recorded episodes as a buffer to sample from."""
    num_steps, shape = sum(len(episode) for episode in episodes), episodes[0].observations.shape[1:]
    replay = ReplayBuffer(num_steps, shape, time_limit_is_end=time_limit_is_end)
    for episode in episodes:
        replay.append(episode)
    return replay


def pretrain(
    name: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Loss],
    *,
    num_updates: int,
    training: schema.ComponentTraining,
    precision: str,
    rng: np.random.Generator,
    checkpoints: Checkpoints,
    cost: Cost,
) -> Pretrained:
    """Return the losses along `num_updates` updates of a component, those before a stop included.

    `rng` is the stream from which `loss` draws its batches. Raises DivergedError as training does, and Interrupted
    after it has written a checkpoint, when it is asked to stop.
    """
    component = Component(
        name,
        module,
        optimizer,
        loss,
        grad_acc_steps=training.grad_acc_steps,
        max_grad_norm=training.max_grad_norm,
        precision=precision,
    )
    work = _Pretraining(component, rng, checkpoints, cost)
    with interruption.deferred():
        work.resume()
        faults.point("pretrain.resumed")
        try:
            work.run(num_updates)
        except Interrupted as stop:
            work.save()
            where = (
                f" in pretraining {name} after update {component.num_updates}, saved in {checkpoints.newest}"
            )
            raise Interrupted(stop.request, f"{where}; the same command goes on from there") from None
        except DivergedError as error:
            good = checkpoints.newest or "none yet"
            raise DivergedError(
                f"{error} Last good checkpoint: {good}. Lower training.learning_rate; the same command ends here again."
            ) from None
    return Pretrained(work.rows, num_updates)


@dataclass
class _Pretraining:
    """A component on its way: rows of means so far, and the terms since the last row."""

    component: Component
    rng: np.random.Generator
    checkpoints: Checkpoints
    cost: Cost
    rows: list[dict[str, float]] = field(default_factory=list)
    terms: list[Terms] = field(default_factory=list)

    def run(self, num_updates: int) -> None:
        """Do the updates that are left."""
        component = self.component
        component.module.train()
        left = range(component.num_updates + 1, num_updates + 1)
        for done in progress(left, what=f"pretraining {component.name}", unit="update"):
            self.terms.append(component.update())
            if done * NUM_REPORTS // num_updates > len(self.rows):
                means = {f"train/{term}": value for term, value in mean_terms(self.terms).items()}
                self.rows.append({"num_updates": done, **means})
                self.terms = []
                self.save()
            faults.point("pretrain.update")
            interruption.check()
        component.module.eval()

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        done = self.component.num_updates
        self.checkpoints.save(self.get_state(), about={"part": self.component.name, "num_updates": done})

    def resume(self) -> None:
        """Go on where the newest checkpoint was made, if there is one."""
        found = self.checkpoints.load(self.check_state)
        if found is not None:
            self.set_state(found.state)
            say(f"pretraining goes on after update {self.component.num_updates} from {found.folder}")

    def get_state(self) -> dict[str, Any]:
        """Return all that decides how pretraining goes on; the recording itself is read again."""
        is_cuda = self._device.type == "cuda"
        return {
            "num_updates": self.component.num_updates,
            "module": dict(self.component.module.state_dict()),
            "optimizer": optimizer_state(self.component.optimizer),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if is_cuda else None,
            "rows": self.rows,
            "terms": stack_terms(self.terms),
            "wall_s": self.cost.wall_s,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where `get_state` was called, on the same device and thread count."""
        self.component.num_updates = state["num_updates"]
        self.component.module.load_state_dict(state["module"])
        restore_optimizer(self.component.optimizer, state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        self.rows, self.terms = state["rows"], unstack_terms(state["terms"], self._device)
        self.cost.go_on(float(state["wall_s"]))

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise DataError if a state holds weights of other names, shapes or types."""
        check_fit(self.component.module.state_dict(), state.get("module", {}), Path("the checkpoint"))

    @property
    def _device(self) -> torch.device:
        return next(self.component.module.parameters()).device
