"""Ctrl-C on a whole study, as a terminal sends it: to Snakemake, its jobs and what reads their output."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from irisflow import interruption, paths
from irisflow.interruption import Interrupted
from workspace import copy_checkout, snakemake, start, wait_for

COMPARED = ("agent.safetensors", "metrics.jsonl", "curve.csv", "reconstructions.safetensors", "params.yaml")


@pytest.mark.slow
def test_a_study_stopped_by_ctrl_c_goes_on_with_a_second_snakemake(smoke_run: Path, tmp_path: Path) -> None:
    folder, agent = copy_checkout(tmp_path / "study"), paths.agent("smoke", "iris", "Catch", 0)
    command = (sys.executable, "-m", "snakemake", str(agent / "manifest.json"), "--cores", "2")
    process = start(folder, *command, has_own_session=True)
    wait_for("resume/train_agent-*/checkpoints/generation-*/manifest.json", folder, process)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=300)
    assert process.returncode != 0 and not (folder / agent).exists(), output
    (work,) = folder.glob("resume/train_agent-*")
    assert len(list(work.glob("checkpoints/generation-*"))) == 2, "that of epoch 1, and that of the stop"
    again = snakemake(folder, str(agent / "manifest.json"), "--cores", "2", check=True)
    assert "goes on " in again.stdout + again.stderr
    for name in COMPARED:
        assert (folder / agent / name).read_bytes() == (smoke_run / agent / name).read_bytes(), name
    assert not work.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_a_request_to_stop_is_raised_at_once_or_at_the_next_safe_point(
    number: signal.Signals, code: int
) -> None:
    with interruption.listening(), pytest.raises(Interrupted, match=number.name) as stopped:
        signal.raise_signal(number)
    assert stopped.value.exit_code == code
    with interruption.deferred():
        interruption.check()
        signal.raise_signal(number)
        with pytest.raises(Interrupted):
            interruption.check()
    interruption.check()
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.listening():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_work_outside_the_main_thread_is_left_alone() -> None:
    def work() -> None:
        with interruption.deferred():
            interruption.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
