"""The provenance of a result says on what, and how exactly, torch computed it."""

import os
from pathlib import Path

import pytest
import torch

from irisflow.training.device import computing_record, driver_version


def with_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an `nvidia-smi` on the path, and nothing else."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")


def test_a_processor_has_no_gpu_and_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_smi(tmp_path, f"touch {tmp_path}/asked", monkeypatch)
    found = computing_record(torch.device("cpu"), precision="bfloat16")
    assert (found["device"], found["precision"]) == ("cpu", "bfloat16")
    assert found["torch_threads"] == torch.get_num_threads()
    assert not {"gpu", "driver", "cuda", "cudnn"} & found.keys() and not (tmp_path / "asked").exists()


def test_flags_that_decide_bytes_are_told_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    before = computing_record(torch.device("cpu"))
    assert before["precision"] == "float32" and before["deterministic_algorithms"] is False
    torch.use_deterministic_algorithms(True)
    try:
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
        after = computing_record(torch.device("cpu"))
    finally:
        torch.use_deterministic_algorithms(False)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"deterministic_algorithms", "cudnn_deterministic"}


def test_a_gpu_is_named_with_driver_and_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_smi(tmp_path, 'echo "$*" > asked; echo 580.65.06; echo 580.65.06', monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H100 at {device}")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    found = computing_record(torch.device("cuda:1"))
    assert (found["gpu"], found["driver"], found["cuda"], found["cudnn"]) == (
        "H100 at cuda:1", "580.65.06", "13.2", 91900
    )  # fmt: skip
    assert "--query-gpu=driver_version" in Path("asked").read_text()


@pytest.mark.parametrize("script", ["exit 9", "true", None], ids=["fails", "silent", "absent"])
def test_a_driver_that_nobody_tells_is_unknown(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        with_smi(tmp_path, script, monkeypatch)
    assert driver_version() is None
