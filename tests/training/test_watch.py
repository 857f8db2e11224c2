"""What phases take is written down beside the numbers of a run, never among them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from warm import TINY

from irisflow import params
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import prepare
from irisflow.training.loop import PHASES, EpochReport, OpenEpoch
from irisflow.training.metrics import json_lines
from irisflow.training.run import History, train
from irisflow.training.watch import Sampler, Usage, cpu_seconds, gpu_utilisation, watched

CPU = torch.device("cpu")
NUM_UPDATES, BATCH_SIZE, LENGTH, HORIZON, NUM_STEPS = 2, 2, 3, 3, 6
BURN = "import time\nwhile time.process_time() < 0.4: pass"
BURN_BELOW = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


class Listed:
    """Keeps what it is told, and how many checkpoints there were then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, []  # type: ignore[var-annotated]

    def write(self, metrics: Any) -> None:
        self.told.append(("metrics", metrics, self.num_checkpoints))

    def write_timings(self, timings: Any) -> None:
        self.told.append(("timings", dict(timings), self.num_checkpoints))

    def close(self) -> None:
        """Do nothing."""

    @property
    def num_checkpoints(self) -> int:
        return len(list(self.folder.glob("generation-*/manifest.json")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Listed]:
    """What a tiny training of three epochs on Catch reported, the second with an evaluation."""
    choice = Choice("smoke", variant="iris", overrides=("env.train.id=Catch", *TINY))
    settings = params.stage_settings("train_agent", params.compose(choice))
    folder = tmp_path_factory.mktemp("checkpoints")
    session, sink = prepare(settings, scale="smoke", game="Catch"), Listed(folder)
    history = train(
        session.trainer, settings, Cost("test"), checkpoint=folder, digest="d", what="test", sinks=[sink]
    )
    return history, sink


def test_every_phase_of_an_epoch_tells_seconds_utilisation_and_memory(trained: Any) -> None:
    first, second, _ = trained[0].timings
    for phase in (*PHASES, "checkpoint"):
        assert second[f"seconds/{phase}"] > 0 and second[f"cpu_utilisation/{phase}"] > 0
        assert 10 < second[f"rss_mb/{phase}"] <= second[f"peak_rss_mb/{phase}"]
    assert "seconds/evaluate" not in first, "the first epoch has no evaluation"


def test_rates_are_the_work_done_over_the_seconds(trained: Any) -> None:
    done = {
        "steps_per_s/collect": NUM_STEPS,
        "updates_per_s/tokenizer": NUM_UPDATES,
        "frames_per_s/tokenizer": NUM_UPDATES * BATCH_SIZE,
        "updates_per_s/world_model": NUM_UPDATES,
        "frames_per_s/world_model": NUM_UPDATES * BATCH_SIZE * LENGTH,
        "updates_per_s/actor_critic": NUM_UPDATES,
        "frames_per_s/actor_critic": NUM_UPDATES * BATCH_SIZE * HORIZON,
        "steps_per_s/evaluate": sum(row["length"] for row in trained[0].curve),
    }
    row = trained[0].timings[1]
    assert {name for name in row if "_per_s" in name} == set(done)
    for name, amount in done.items():
        seconds = row[f"seconds/{name.split('/')[1]}"]
        assert row[name] * seconds == pytest.approx(amount, rel=0.01 + 1e-4 / seconds), name


def test_what_this_machine_cannot_measure_is_absent(trained: Any) -> None:
    assert not torch.cuda.is_available() or pytest.skip("this machine has a GPU")
    assert not [name for row in trained[0].timings for name in row if name.startswith(("gpu", "cuda"))]
    assert gpu_utilisation(torch.device("cuda:0")) is None


def test_no_timing_is_among_the_numbers_that_a_stopped_run_must_reproduce(trained: Any) -> None:
    names = {name.split("/")[0] for row in trained[0].timings for name in row} - {"epoch"}
    assert len(names) >= 6
    assert not [name for name in names if f'"{name}' in json_lines(trained[0].metrics).decode()]


def test_sinks_are_told_of_an_epoch_before_and_of_its_timings_after_the_checkpoint(trained: Any) -> None:
    history, sink = trained
    told = [(kind, row["epoch"]) for kind, row, _ in sink.told]
    assert told == [(kind, epoch) for epoch in (1, 2, 3) for kind in ("metrics", "timings")]
    assert [row for kind, row, _ in sink.told if kind == "timings"] == history.timings
    assert [count for _, _, count in sink.told[:2]] == [0, 1]


def test_a_phase_that_was_interrupted_adds_up_over_its_attempts_and_through_a_checkpoint() -> None:
    report = EpochReport(1, 0)
    with pytest.raises(KeyboardInterrupt), watched(report.usage, "collect", CPU) as usage:
        time.sleep(0.2)
        raise KeyboardInterrupt
    assert usage.num_steps == 0 and usage.seconds >= 0.2
    kept = OpenEpoch.from_state(OpenEpoch(report).get_state(), CPU).report
    assert kept.usage == report.usage
    with watched(kept.usage, "collect", CPU) as usage:
        time.sleep(0.2)
        usage.num_steps = 100
    assert usage.seconds >= 0.4 and usage.row("collect")["steps_per_s/collect"] <= 250


@pytest.mark.parametrize("code", [BURN, BURN_BELOW], ids=["its own", "its child's"])
def test_the_seconds_of_processes_that_ended_are_counted(code: str) -> None:
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert cpu_seconds() - before >= 0.4


def test_the_seconds_of_a_living_process_are_counted() -> None:
    before = cpu_seconds()
    command = [sys.executable, "-c", f"{BURN}\nprint('done', flush=True)\ntime.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "done\n"
        found = cpu_seconds() - before
        process.kill()
    assert found >= 0.35


def test_a_busy_thread_has_a_utilisation_near_one_and_a_sleeping_one_near_none() -> None:
    usage: dict[str, Usage] = {}
    with watched(usage, "busy", CPU):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    with watched(usage, "asleep", CPU):
        time.sleep(0.5)
    shares = [usage[name].row(name)[f"cpu_utilisation/{name}"] for name in ("busy", "asleep")]
    assert shares[1] * torch.get_num_threads() < 0.1 < shares[0] * torch.get_num_threads()


def readings(*values: float | None) -> Iterator[float | None]:
    yield from values


def test_a_sampler_gives_the_mean_until_the_block_or_the_readings_end() -> None:
    source, done = readings(0.2, 0.4, None), threading.Event()

    def read() -> float | None:
        value = next(source)
        if value is None:
            done.set()
        return value

    with Sampler(read, seconds_between=0.001) as sampler:
        assert sampler.mean is None or sampler.mean > 0
        assert done.wait(10)
    assert sampler.mean == pytest.approx(0.3)
    assert not [thread for thread in threading.enumerate() if thread.name == "sampler"]
    with Sampler(None) as silent:
        assert silent.mean is None
