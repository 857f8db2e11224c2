"""A head gives torch's numbers, whichever way is taken."""

import pytest
import torch
from torch.testing import assert_close

from irisflow.kernels.build import library
from irisflow.plainly import as_torch_does
from irisflow.world_model import heads
from irisflow.world_model.heads import Head


def build(width: int = 64, num_classes: int = 32) -> Head:
    torch.manual_seed(0)
    return Head(width, num_classes)


@pytest.mark.parametrize("shape", [(1,), (8,), (21,), (300,), (3, 4), (0,)])
@pytest.mark.parametrize(("width", "num_classes"), [(32, 16), (64, 256), (48, 80), (32, 3), (40, 16)])
def test_logits_are_torchs(width: int, num_classes: int, shape: tuple[int, ...]) -> None:
    head, outputs = build(width, num_classes), torch.randn(*shape, width)
    with torch.no_grad():
        logits = head(outputs)
        with as_torch_does():
            assert_close(logits, head(outputs), rtol=0, atol=1e-5)


@pytest.mark.skipif(library() is None, reason="no C++ compiler")
def test_which_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    perceptron_pass = heads.perceptron_pass
    monkeypatch.setattr(heads, "perceptron_pass", lambda *args: passes.append(1) or perceptron_pass(*args))
    head, outputs = build(), torch.randn(8, 64)
    assert head(outputs).requires_grad
    with torch.no_grad():
        with as_torch_does():
            head(outputs)
        assert passes == []
        head(outputs)
        assert passes == [1], "lost: slower now"
        head.double()(outputs.double())
        assert passes == [1]


def test_a_weight_that_changed_is_seen() -> None:
    head, outputs = build(), torch.randn(8, 64)
    with torch.no_grad():
        head(outputs)
        head[2].weight.mul_(2)
        logits = head(outputs)
        with as_torch_does():
            assert_close(logits, head(outputs), rtol=0, atol=1e-5)
