"""Classes are drawn with the numbers that torch's generator draws, whichever way is taken."""

import pytest
import torch

from irisflow.kernels import sampling
from irisflow.kernels.build import library
from irisflow.plainly import as_torch_does
from irisflow.randomness import sample_categorical

needs_kernels = pytest.mark.skipif(library() is None, reason="no C++ compiler")


def generator(*, num_used: int) -> torch.Generator:
    """Return a generator of which some numbers of 32 bits are used up."""
    made = torch.Generator().manual_seed(7)
    torch.rand(num_used, generator=made)
    return made


@needs_kernels
def test_torch_draws_as_the_kernel_takes_it_to() -> None:
    assert sampling.can_draw(), "torch draws its numbers in another way now: slower"


@needs_kernels
@pytest.mark.parametrize("num_used", [0, 1, 623, 624, 625, 1000])
@pytest.mark.parametrize("count", [1, 17, 312, 5000, 1_000_000])
def test_numbers_are_torchs_to_the_bit_and_so_are_those_drawn_next(num_used: int, count: int) -> None:
    ours, torchs = (generator(num_used=num_used) for _ in range(2))
    assert torch.equal(sampling.exponentials(count, ours), torch.empty(count).exponential_(generator=torchs))
    assert torch.equal(ours.get_state(), torchs.get_state())
    assert torch.equal(torch.randn(20, generator=ours), torch.randn(20, generator=torchs))


@pytest.mark.parametrize("shape", [(8, 512), (64, 256), (5, 18), (3, 1), (2, 3, 7), (3,), (0, 4)])
def test_the_same_classes_are_drawn_either_way(shape: tuple[int, ...]) -> None:
    ours, torchs = (generator(num_used=3) for _ in range(2))
    for _ in range(20):
        logits = 3 * torch.randn(shape)
        drawn = sample_categorical(logits, generator=ours)
        with as_torch_does():
            assert torch.equal(drawn, sample_categorical(logits, generator=torchs))
    assert torch.equal(ours.get_state(), torchs.get_state())


def test_logits_need_not_lie_together_nor_be_float32() -> None:
    logits = torch.randn(6, 9, dtype=torch.float64).t()
    drawn = sample_categorical(logits, generator=generator(num_used=0))
    assert torch.equal(
        drawn, sample_categorical(logits.float().contiguous(), generator=generator(num_used=0))
    )


def test_the_first_of_several_classes_that_are_as_likely_wins() -> None:
    logits = torch.full((4, 40), -torch.inf)
    logits[1, 7] = logits[2, 39] = logits[3, 16] = 0
    assert sample_categorical(logits, generator=generator(num_used=0)).tolist() == [0, 7, 39, 16]


def test_without_kernels_torch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(8, 32)
    drawn = sample_categorical(logits, generator=generator(num_used=0))
    monkeypatch.setattr(sampling, "can_draw", lambda: False)
    assert torch.equal(drawn, sample_categorical(logits, generator=generator(num_used=0)))
