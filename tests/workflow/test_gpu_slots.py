"""How many jobs share a GPU, and which GPU a job takes."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from irisflow.cards import cards
from workspace import REPORT, ROOT, run, snakemake

pytestmark = pytest.mark.slow
SLOTS = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())["resources"]["gpu"]
USING = {
    "pretrain_tokenizer",
    "pretrain_world_model",
    "train_agent",
    "hold_out",
    "evaluate",
    "measure_world_model",
}
# Takes a GPU as a stage does, tells which, and keeps it until its input ends. The folder of /dev is argument 1.
JOB = """
import os, sys, pathlib
from irisflow import cards
cards.settle(sys.argv[2], devices=pathlib.Path(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""
SNAKEFILE = """
rule all:
    input: expand("done/{i}", i=range(12)),
rule work:
    output: "done/{i}",
    resources: gpu=1,
    shell: "mkdir -p running; touch running/{wildcards.i}; sleep 1; ls running | wc -l > {output}; rm running/{wildcards.i}"
"""


def slots_of(checkout: Path, *config: str) -> dict[str, set[int]]:
    """Return what the jobs of each rule take of the resource `gpu` in a dry run."""
    result = snakemake(
        checkout, REPORT, "--dry-run", "--cores", "8", "--config", "study=smoke", *config, check=True
    )
    jobs = re.findall(r"rule (\w+):((?:\n .*)*)", result.stdout + result.stderr)
    found: dict[str, set[int]] = {}
    for rule, text in jobs:
        number = re.search(r"resources: .*\bgpu=(\d+)", text)
        found.setdefault(rule, set()).add(int(number[1]) if number else 0)
    return found


@pytest.mark.parametrize(("device", "slots"), [("cuda:0", 1), ("cpu", 0)])
def test_jobs_that_compute_on_a_gpu_take_a_slot_and_no_others_do(
    checkout: Path, device: str, slots: int
) -> None:
    found = slots_of(checkout, f"overrides=['common.device={device}']")
    assert {rule for rule in found if found[rule] == {slots}} >= USING
    assert all(found[rule] == {0} for rule in found if rule not in USING) and "collect" in found


def test_the_default_profile_lets_so_many_jobs_share_the_gpu(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles/default", tmp_path / "profiles/default")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    run(tmp_path, sys.executable, "-m", "snakemake", "--cores", "12", "--quiet", "all", check=True)
    most = max(int(path.read_text()) for path in (tmp_path / "done").iterdir())
    assert 1 < most <= SLOTS == 8


def devices(folder: Path, *names: str) -> Path:
    """Return a folder that looks like /dev on a machine with these device files."""
    for name in names:
        (folder / name).touch()
    return folder


def test_the_gpus_are_those_of_the_machine_that_the_user_lets_a_process_see(tmp_path: Path) -> None:
    folder = devices(tmp_path, "nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null")
    assert cards(environment={}, devices=folder) == ["0", "1", "10"]
    for visible, expected in {"1": ["1"], "GPU-5f, 0": ["GPU-5f", "0"], "0,-1,1": ["0"], "": []}.items():
        assert cards(environment={"CUDA_VISIBLE_DEVICES": visible}, devices=folder) == expected
    assert cards(environment={"CUDA_VISIBLE_DEVICES": "0"}, devices=tmp_path / "none") == []


class Jobs:
    """Processes that take a GPU and keep it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(folder))
        self.folder, self.running = devices(folder, "nvidia0", "nvidia1"), []  # type: ignore[var-annotated]

    def start(self, device: str = "auto") -> str:
        """Return which GPU a new job sees."""
        command = [sys.executable, "-c", JOB, str(self.folder), device]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.running.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        return str(self.running[-1].stdout.readline().strip())

    def end(self, index: int) -> None:
        job = self.running.pop(index)
        job.kill()
        job.communicate()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    started = Jobs(tmp_path, monkeypatch)
    yield started
    while started.running:
        started.end(0)


def test_jobs_spread_over_the_gpus_and_the_place_of_one_that_was_killed_is_free_again(jobs: Jobs) -> None:
    assert [jobs.start() for _ in range(4)] == ["0", "1", "0", "1"]
    jobs.end(1)
    assert [jobs.start(), jobs.start()] == ["1", "0"]


def test_a_job_that_names_its_device_is_left_alone(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [jobs.start("cpu"), jobs.start("cuda:1")] == ["None", "None"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert jobs.start() == "1" and not list(jobs.folder.glob("irisflow-gpus-*"))
