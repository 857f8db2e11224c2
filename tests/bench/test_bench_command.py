"""The command: what it writes, what it compares, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text
from settings import NUM_FRAMES

from irisflow.bench import bounds, figure, result
from irisflow.bench.registry import PHASES, chosen
from irisflow.bench.run import measure
from irisflow.bench.timing import Effort
from irisflow.bench.workload import Request
from irisflow.cli import main
from irisflow.errors import ConfigError, DataError, SlowdownError

MEASURED = ("decode", "world_model_update", "sampling_tokens", "environment")
WAY = {
    "seconds", "units_per_s", "flops", "convolution_flops", "matmul_flops", "operators", "peak_memory_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """A result of some phases at scale smoke, each run twice."""
    request = Request("smoke", "iris", "cpu", 1, NUM_FRAMES, ("training.world_model.batch_num_samples=3",))
    return measure(request, MEASURED, effort=Effort(0.0, 2, 2))


@pytest.fixture
def file(measured: dict[str, Any], tmp_path: Path) -> Path:
    """The same as a file."""
    result.write(measured, tmp_path / "a.json")
    return tmp_path / "a.json"


def changed(file: Path, name: str, **changes: Any) -> Path:
    """Return another file whose result differs in some keys."""
    other = file.with_name(name)
    other.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), encoding="utf-8")
    return other


def test_a_result_says_where_and_how_it_was_measured(measured: dict[str, Any]) -> None:
    assert (measured["kind"], measured["schema"], measured["scale"]) == ("irisflow-bench", 1, "smoke")
    assert (measured["variant"], measured["device"], measured["threads"]) == ("iris", "cpu", 1)
    assert measured["overrides"] == ["training.world_model.batch_num_samples=3"]
    assert {row["phase"]: row["sizes"] for row in measured["phases"]}["world_model_update"]["batch"] == 3
    assert {"system", "processor", "cores", "memory_gb"} <= measured["machine"].keys()
    assert {"commit", "dirty", "torch", "projected_epoch_s", "projected_atari_100k"} <= measured.keys()
    peaks = measured["peaks"]
    assert peaks["matmul_gflops_per_s"] > 1
    assert peaks["convolution_used_gflops_per_s"] == peaks["convolution"][0]["gflops_per_s"] > 0.5
    assert peaks["copy_gb_per_s"] > 0.1
    assert peaks["matmul_bfloat16_gflops_per_s"] is None


def test_each_phase_has_both_ways_and_their_ratio_pair_by_pair(measured: dict[str, Any]) -> None:
    assert [row["phase"] for row in measured["phases"]] == list(MEASURED)
    for row in measured["phases"]:
        assert row["plain"].keys() == WAY
        assert row["fast"].keys() == WAY | {"bytes", "flops_per_byte", "roofline"}
        assert row["ratio"]["num_runs"] == row["fast"]["seconds"]["num_runs"] == 2
        assert row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
        assert row["fast"]["units_per_s"] == pytest.approx(row["units"] / row["fast"]["seconds"]["median"])
        place = row["fast"]["roofline"]
        assert place["bound"] in ("arithmetic", "memory", "both", "overhead")
        assert place["fraction"] == pytest.approx(place["roof_s"] / row["fast"]["seconds"]["median"])
        assert place["memory_s"] == pytest.approx(row["fast"]["bytes"] / place["copy_gb_per_s"] / 1e9)
        assert place["matmul_gflops_per_s"] > 1 < 2 * place["convolution_gflops_per_s"]
    by_name = {row["phase"]: row for row in measured["phases"]}
    assert by_name["decode"]["fast"]["convolution_flops"] > 1e8 > by_name["environment"]["fast"]["flops"] == 0
    update = by_name["world_model_update"]
    assert (
        update["plain"]["convolution_flops"] > 0 == update["fast"]["convolution_flops"]
    )  # encoded beforehand


def test_the_command_writes_table_json_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "result.json", tmp_path / "roofline.png"
    arguments = ["--scale", "smoke", "--quick", "--threads", "1", "--phases", "decode", "--device", "cpu"]
    assert main(["bench", *arguments, "--output", str(files[0]), "--figure", str(files[1]), "--check"]) == 0
    table = capsys.readouterr().out
    assert "fast/plain" in table and "decode" in table and "encode" not in table.replace("decode", "")
    assert result.read(files[0])["phases"][0]["phase"] == "decode"
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_labels_of_the_picture_do_not_overlap(measured: dict[str, Any]) -> None:
    rows = [row for row in measured["phases"] if row["fast"]["flops"]]
    crowded = [
        {**row, "phase": f"{row['phase']}_{index}"} for row in rows for index in range(5)
    ]  # equal points: the hardest case
    drawn = figure.draw({**measured, "phases": crowded})
    drawn.draw_without_rendering()  # puts labels where they belong
    boxes = [Text.get_window_extent(text) for text in drawn.axes[0].texts if "%" in text.get_text()]
    assert len(boxes) == len(crowded)
    for index, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:index]) == 0


def test_two_results_are_compared_phase_by_phase(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases = json.loads(file.read_text("utf-8"))["phases"]
    phases[0]["fast"]["seconds"]["median"] /= 4
    assert main(["bench", "--compare", str(file), str(changed(file, "b.json", phases=phases[:2]))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(MEASURED[:2])
    assert [line.split()[-1] for line in lines[1:]] == ["4.00", "1.00"]


def test_a_comparison_warns_where_the_machines_differ(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(file, "b.json", machine={"processor": "another"}, threads=64)
    assert main(["bench", "--compare", str(file), str(other)]) == 0
    warnings = capsys.readouterr().err
    assert "machine differs" in warnings and "threads differs: 1 and 64" in warnings


@pytest.mark.parametrize("change", [{"scale": "full"}, {"schema": 2}])
def test_results_of_another_scale_or_schema_are_not_compared(
    file: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(file, "b.json", **change)
    assert main(["bench", "--compare", str(file), str(other)]) == ConfigError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert next(iter(change)) in line and "b.json" in line


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "report"}'])
def test_a_file_that_is_no_result_is_refused_in_one_line(
    file: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file.with_name("b.json")
    other.write_text(text, encoding="utf-8")
    assert main(["bench", "--compare", str(file), str(other)]) == DataError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.json" in line


def test_a_ratio_under_its_bound_fails_and_is_named(measured: dict[str, Any]) -> None:
    bounds.check(measured["phases"], {"decode": 1e-6, "not_measured": 1e6})
    with pytest.raises(
        SlowdownError, match=r"^bench --check: decode is \d+\.\d\d times as fast .* bound 1e\+06"
    ):
        bounds.check(measured["phases"], {"decode": 1e6, "environment": 1e-6})


def test_only_phases_with_a_plain_way_have_bounds() -> None:
    assert bounds.BOUNDS.keys() <= PHASES.keys() - {"collection", "checkpoint", "epoch"}


def test_phases_are_chosen_by_name_in_their_own_order() -> None:
    assert chosen(["decode", "encode"]) == ["encode", "decode"]
    assert chosen(["imagination"]) == ["imagination_8", "imagination_32", "imagination_64"]
    assert chosen([]) == list(PHASES)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--phases", "decoding"], "decode"),
        (["--scale", "huge"], "quick"),
        (["--variant", "irs"], "iris"),
        (["--threads", "0"], "--threads"),
        (["--figure", "roofline.txt"], ".png"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_measured(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == ConfigError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
