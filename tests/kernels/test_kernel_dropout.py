"""Random words of the kernels are Threefry's; what they drop is the same forward and backward, by any number of threads."""

import pytest
import torch
from torch.testing import assert_close

from irisflow.kernels.dropout import STEPS, can_drop, dropped, least_kept, random_key, random_words

P = 0.3
SHAPES = [(1,), (31,), (32,), (5, 33), (3, 1 << 14), (40_001,)]
IN_A_ROW = 1 << 14  # values of a row of words
TURNS = (13, 15, 26, 6, 17, 29, 16, 24)
ONES = 2**32 - 1


def threefry(counter: tuple[int, int], key: tuple[int, int]) -> tuple[int, int]:
    """Return Threefry-2x32 with 20 rounds, as its paper (Salmon et al. 2011, section 3.3) defines it."""
    keys = (*key, 0x1BD11BDA ^ key[0] ^ key[1])
    first, second = ((c + k) % 2**32 for c, k in zip(counter, key, strict=True))
    for number in range(1, 21):
        turn = TURNS[(number - 1) % 8]
        first = (first + second) % 2**32
        second = (second << turn | second >> (32 - turn)) % 2**32 ^ first
        if number % 4 == 0:
            group = number // 4
            first = (first + keys[group % 3]) % 2**32
            second = (second + keys[(group + 1) % 3] + group) % 2**32
    return first, second


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the authors' known answers: zeros, ones, digits of pi
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_oracle_gives_the_published_words(
    counter: tuple[int, int], key: tuple[int, int], words: tuple[int, int]
) -> None:
    assert threefry(counter, key) == words


@pytest.mark.parametrize("key", [0, 0x0370734413198A2E, -1, -(2**63)])
def test_words_of_a_place_are_those_of_its_counter(key: int) -> None:
    found = random_words(3, 100, key)
    halves = key % 2**32, key >> 32 & ONES
    for row in range(3):
        for place in range(100):
            pair = threefry((place // 32 * 16 + place % 16, row), halves)
            assert found[row, place] == pair[place % 32 // 16], (row, place)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_below_the_bound_is_dropped_and_so_is_its_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.randn(shape, requires_grad=True)
    assert can_drop(values)
    state = torch.get_rng_state()
    words = random_words(-(-values.numel() // IN_A_ROW), IN_A_ROW, random_key())
    kept = (words.flatten()[: values.numel()] >= least_kept(P)).view(shape)
    torch.set_rng_state(state)
    found = dropped(values, P)
    assert_close(found, torch.where(kept, values / (1 - P), 0.0))
    upstream = torch.randn(shape)
    (gradient,) = torch.autograd.grad(found, values, upstream)
    assert_close(gradient, torch.where(kept, upstream / (1 - P), 0.0))


def test_maps_channels_last_and_other_layouts_keep_their_order() -> None:
    for given in (
        torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last),
        torch.randn(5, 6).t(),
    ):
        values = given.requires_grad_()
        torch.manual_seed(1)
        found = dropped(values, P)
        upstream = torch.randn(found.shape)
        (gradient,) = torch.autograd.grad(found, values, upstream)
        kept = found != 0
        assert 0 < int(kept.sum()) < kept.numel()
        assert_close(found, torch.where(kept, values / (1 - P), 0.0))
        assert_close(gradient, torch.where(kept, upstream / (1 - P), 0.0))


def test_threads_change_nothing() -> None:
    values, num_threads = torch.randn(100_000), torch.get_num_threads()
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(2)
        made.append(dropped(values, P))
    torch.set_num_threads(num_threads)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_a_probability_next_to_0_or_1_stays_within_32_bits() -> None:
    assert least_kept(0.0) == 0
    assert least_kept(0.25) == STEPS // 4
    assert least_kept(1 - 1e-12) == STEPS - 1
