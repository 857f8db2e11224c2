"""One uniform number decides each row's class, as often as its probability says."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from irisflow.plainly import as_torch_does
from irisflow.randomness import CountedNoise, DrawnNoise, Source, sample_categorical


@pytest.fixture(params=[nullcontext, as_torch_does], ids=["kernel", "torch"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernel's, and torch's."""
    with request.param():
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(count: int) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=generator())


@pytest.mark.parametrize("source", [generator, lambda: DrawnNoise(numbers(100_000))])
@pytest.mark.parametrize("num_classes", [2, 512])
def test_classes_come_as_often_as_their_probabilities_say(
    num_classes: int, source: Callable[[], Source]
) -> None:
    logits = 0.5 * torch.randn(num_classes, generator=generator())
    num_rows = 100_000
    found = sample_categorical(logits.expand(num_rows, num_classes), generator=source())
    expected = num_rows * logits.double().softmax(-1)
    counts = torch.bincount(found, minlength=num_classes)
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    assert chi2.sf(statistic, num_classes - 1) > 1e-3, statistic


def test_a_number_is_a_place_among_shares_end_to_end() -> None:
    logits = torch.tensor([0.5, 0.25, 0.0, 0.25]).log().expand(7, 4)
    places = torch.tensor([0, 0.4999999, 0.5, 0.74, 0.75, 0.9, 1 - 2**-53], dtype=torch.float64)
    assert sample_categorical(logits, generator=DrawnNoise(places)).tolist() == [0, 0, 1, 1, 3, 3, 3]


def test_the_rarest_class_is_drawn_and_an_impossible_one_never() -> None:
    rare = torch.tensor([[0.0, -20.0, -torch.inf]])
    last = DrawnNoise(torch.tensor([1 - 1e-10], dtype=torch.float64))
    assert sample_categorical(rare, generator=last).item() == 1
    assert sample_categorical(rare.expand(10_000, 3), generator=generator()).max() <= 1


def test_each_row_takes_one_number_of_its_own() -> None:
    logits = torch.randn(3, 4, 5, generator=generator())
    counted = CountedNoise(generator())
    found = sample_categorical(logits, generator=counted)
    assert counted.num_used == 12
    alone = [
        sample_categorical(row[None], generator=DrawnNoise(number[None]))
        for row, number in zip(logits.flatten(0, 1), numbers(12), strict=True)
    ]
    assert torch.equal(found.flatten(), torch.cat(alone))


def test_the_likeliest_class_needs_no_number() -> None:
    draws, logits = generator(), torch.randn(6, 5)
    before = draws.get_state()
    assert torch.equal(sample_categorical(logits, generator=draws, greedy=True), logits.argmax(-1))
    assert torch.equal(draws.get_state(), before)


def test_logits_that_are_no_numbers_give_some_class() -> None:
    """What is not finite is found and told elsewhere; an index out of range would hide it."""
    found = sample_categorical(torch.full((8, 4), torch.nan), generator=generator())
    assert ((found >= 0) & (found < 4)).all()


@pytest.mark.parametrize("way", [nullcontext], indirect=True)
@pytest.mark.parametrize("shape", [(3, 1), (5, 3), (64, 512), (40, 3, 301)])
def test_kernel_and_torch_draw_the_same(shape: tuple[int, ...]) -> None:
    logits = 3 * torch.randn(shape, generator=generator(2))
    found = sample_categorical(logits, generator=generator())
    with as_torch_does():
        expected = sample_categorical(logits, generator=generator())
    assert torch.equal(found, expected)
