"""`common.precision=bfloat16`: passes of training in bfloat16; weights, codes, losses and play in float32."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from irisflow import params
from irisflow.params import Choice
from irisflow.stages.session import Session, prepare

COMPONENTS = ("tokenizer", "world_model", "actor_critic")
NUM_UPDATES = 12


def session(precision: str) -> Session:
    overrides = ("env.train.id=Catch", "training.learning_rate=0.001", f"common.precision={precision}")
    settings = params.stage_settings(
        "train_agent", params.compose(Choice("smoke", variant="iris", overrides=overrides))
    )
    found = prepare(settings, scale="smoke", game="Catch")
    found.trainer.collector.collect(found.trainer.policy, 64)
    return found


def losses(found: Session, name: str) -> torch.Tensor:
    """Return the total loss of each of some updates."""
    part = found.trainer.components[name]
    history: list[dict[str, Any]] = []
    part.train(NUM_UPDATES, what="test", history=history)
    return torch.stack([terms["total"] for terms in history])


class Products(TorchDispatchMode):
    """Notes the types in which matrix products and convolutions are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.addmm.default, torch.ops.aten.convolution.default):
            self.types |= {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def trained(request: pytest.FixtureRequest) -> tuple[str, Session, dict[str, torch.Tensor]]:
    """A session in each precision, and the losses of its updates."""
    found = session(request.param)
    return request.param, found, {name: losses(found, name) for name in COMPONENTS}


def test_float32_is_the_default() -> None:
    assert params.settings_from(["scale=full"]).common.precision == "float32"


def test_losses_are_near_those_of_float32(
    trained: tuple[str, Session, dict[str, torch.Tensor]],
) -> None:
    precision, _, found = trained
    exact = session("float32")
    for name in COMPONENTS[:2]:
        expected = losses(exact, name)
        assert found[name].dtype == torch.float32 and found[name].isfinite().all()
        assert torch.equal(found[name], expected) == (precision == "float32")
        torch.testing.assert_close(found[name], expected, rtol=0.05, atol=0.05)
        assert expected[-4:].mean() < expected[:4].mean(), "it learns"


def test_weights_and_optimizers_stay_in_float32(
    trained: tuple[str, Session, dict[str, torch.Tensor]],
) -> None:
    _, found, _ = trained
    assert {p.dtype for p in found.agent.parameters()} == {torch.float32}
    moments = [
        value
        for part in found.trainer.components.values()
        for state in part.optimizer.state.values()
        for value in state.values()
        if value.dim()
    ]
    assert moments and {value.dtype for value in moments} == {torch.float32}


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_products_of_an_update_are_computed_in_the_precision_that_was_asked_for(
    trained: tuple[str, Session, dict[str, torch.Tensor]], name: str
) -> None:
    precision, found, _ = trained
    part = found.trainer.components[name]
    found.trainer.encoded_replay.sample(8, 4, anchor="end", sample_by="step", rng=found.trainer.sample_rng)
    with Products() as seen, torch.autocast("cpu", torch.bfloat16, enabled=part.is_mixed):
        part.loss()
    wanted = torch.float32 if precision == "float32" else torch.bfloat16
    assert wanted in seen.types
    if precision == "float32":
        assert seen.types == {torch.float32}


def test_a_frame_has_the_same_tokens_within_an_autocast_as_without(
    trained: tuple[str, Session, dict[str, torch.Tensor]],
) -> None:
    _, found, _ = trained
    frames = found.trainer.replay.frames(0, 32)
    tokens = found.agent.tokenizer.encode(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found.agent.tokenizer.encode(frames), tokens)
