"""The arithmetic of the roofline, and what is counted."""

import subprocess
import sys

import pytest
import torch
from settings import workload
from torch import nn

from irisflow.bench.counting import count
from irisflow.bench.peaks import MachinePeaks
from irisflow.bench.projection import atari_100k, frames_seen_each_epoch
from irisflow.bench.roofline import Peaks, Work, placed, roof
from irisflow.bench.timing import Spread
from irisflow.bench.traffic import memory_bytes, token_pass_bytes, update_bytes, weight_bytes

CPU = torch.device("cpu")
PEAKS = Peaks(matmul=100.0, convolution=50.0, copy=10.0)


def test_a_phase_is_placed_under_the_roof_that_its_own_kinds_of_arithmetic_have() -> None:
    place = placed(Work(convolution_flops=100, matmul_flops=300, num_bytes=20), PEAKS, seconds=10.0)
    assert (place.arithmetic_s, place.memory_s) == (5.0, 2.0)  # 100/50 + 300/100; 20/10
    assert (place.fraction, place.bound) == (0.5, "arithmetic")


def test_a_phase_that_moves_more_than_it_computes_is_bound_by_memory() -> None:
    place = placed(Work(matmul_flops=100, num_bytes=80), PEAKS, seconds=10.0)
    assert (place.fraction, place.bound) == (0.8, "memory")


def test_a_phase_far_below_the_roof_is_bound_by_overhead() -> None:
    assert placed(Work(matmul_flops=100, num_bytes=10), PEAKS, seconds=10.0).bound == "overhead"
    assert placed(Work(), PEAKS, seconds=1.0).bound == "overhead"


@pytest.mark.parametrize(
    ("pass_bytes", "roof_s", "bound"),
    [
        (
            60,
            8.0,
            "both",
        ),  # convolutions 100/50, longer than 20/10 of the rest; passes 60/10, longer than 300/100
        (10, 10.0, "both"),  # now the rest needs 70/10, but the products of passes 300/100
        (70, 9.0, "both"),
        (0, 8.0, "memory"),  # one stage: 80/10, longer than 100/50 + 300/100
    ],
)
def test_stages_that_follow_one_another_have_their_roofs_added(
    pass_bytes: int, roof_s: float, bound: str
) -> None:
    work = Work(convolution_flops=100, matmul_flops=300, num_bytes=80, pass_bytes=pass_bytes)
    place = placed(work, PEAKS, seconds=16.0)
    assert (place.roof_s, place.fraction, place.bound) == (roof_s, roof_s / 16, bound)
    assert (place.arithmetic_s, place.memory_s) == (5.0, 8.0)


def test_a_stage_that_is_short_does_not_say_what_binds_a_phase() -> None:
    work = Work(convolution_flops=10, matmul_flops=1, num_bytes=90, pass_bytes=90)
    assert placed(work, PEAKS, seconds=10.0).bound == "memory"


def test_peaks_before_and_after_a_phase_are_averaged() -> None:
    assert PEAKS.averaged(Peaks(300.0, 70.0, 10.0)) == Peaks(200.0, 60.0, 10.0)


def test_the_roof_rises_with_the_intensity_up_to_the_matrix_products_rate() -> None:
    assert [roof(intensity, PEAKS) for intensity in (1.0, 10.0, 1000.0)] == [10.0, 100.0, 100.0]


def test_the_convolution_of_the_nearest_width_is_the_measure() -> None:
    rates = {16: {"contiguous": 1.0, "channels last": 0.5}, 64: {"contiguous": 1.5, "channels last": 2.0}}
    peaks = MachinePeaks(9.0, rates, 3.0, None)
    assert [peaks.at_width(channels).convolution for channels in (8, 16, 64)] == [1.0, 1.0, 2.0]


def test_a_convolution_and_a_matrix_product_count_as_the_formulas_say() -> None:
    convolution, maps = nn.Conv2d(5, 7, 3, padding=1), torch.zeros(2, 5, 8, 8)
    left, right = torch.zeros(3, 4), torch.zeros(4, 6)
    with torch.no_grad():
        counted = count(lambda: (convolution(maps), left @ right), CPU)
    assert counted.convolution_flops == 2 * (2 * 8 * 8) * 7 * (5 * 3 * 3)
    assert counted.matmul_flops == 2 * 3 * 4 * 6
    assert counted.num_operators == 2
    assert counted.kept_bytes == 0


def test_tensors_kept_for_a_backward_pass_count_once_and_weights_do_not() -> None:
    layer, inputs = nn.Linear(4, 6), torch.zeros(3, 4)
    counted = count(lambda: layer(inputs).exp() + layer(inputs), CPU, known=layer.parameters())
    assert counted.kept_bytes == inputs.nbytes + 4 * 3 * 6  # the inputs of both layers, the result of exp


def test_peak_memory_is_what_was_held_at_once() -> None:
    """In a process of its own: this one may keep memory that earlier tests have freed."""
    program = (
        "import torch; from irisflow.bench.counting import count\n"
        "cpu = torch.device('cpu'); count(lambda: torch.ones(2), cpu)\n"  # imports
        "print(count(lambda: torch.ones(2**27, dtype=torch.uint8), cpu).peak_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.99 * 2**27 <= int(done.stdout) < 1.2 * 2**27


def test_an_update_touches_each_weight_eleven_times() -> None:
    layer = nn.Linear(10, 10, bias=False)
    assert (weight_bytes(layer), update_bytes(layer)) == (400, 4400)


def test_attention_reads_its_growing_cache_at_every_token() -> None:
    model = workload().agent.world_model
    per_token = 2 * 4 * 32  # key and value of one layer, 32 wide
    assert memory_bytes(model, 16) == 16 * per_token
    weights = weight_bytes(model)
    mean_tokens = (16 + 2 * 17) / 2
    assert token_pass_bytes(model, batch=3, horizon=2) == 2 * 16 * (weights + 3 * per_token * mean_tokens)


def test_the_spread_of_runs_has_their_median() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)


def test_a_run_is_projected_from_all_its_phases_or_not_at_all() -> None:
    names = (
        "tokenizer_update", "world_model_update", "actor_critic_update", "encode", "decode", "collection", "evaluation",
    )  # fmt: skip
    rows = [
        {"phase": name, "units": 10, "fast": {"seconds": {"median": 0.1}, "peak_memory_bytes": index}}
        for index, name in enumerate(names)
    ]
    projected = atari_100k(rows)
    assert projected is not None
    assert projected["hours"]["tokenizer_update"] == pytest.approx(119_000 * 0.1 / 3600)
    assert projected["hours"]["collection"] == pytest.approx(100_000 * 0.01 / 3600)
    assert projected["total_hours"] == pytest.approx(sum(projected["hours"].values()))
    assert projected["peak_memory_bytes"] == 6
    assert atari_100k(rows[1:]) is None


def test_each_frame_of_the_growing_buffer_is_encoded_once_an_epoch() -> None:
    assert frames_seen_each_epoch(598) == 2 * 100_000
    assert frames_seen_each_epoch(498) - frames_seen_each_epoch(500) == 200 * 499 + 200 * 500
