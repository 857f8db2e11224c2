"""Numbers reach Weights & Biases and TensorBoard, and nothing that happens there reaches the training."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from irisflow.by_hand import wandb_outlet
from irisflow.by_hand.tensorboard_outlet import TensorBoardOutlet
from irisflow.by_hand.wandb_outlet import WandbOutlet, chosen_mode, has_login
from irisflow.errors import ConfigError

KEY = "k" * 40
ROW = {
    "dataset": "train_dataset",
    "epoch": 1,
    "episode_num": 7,
    "episode_return": 3.5,
    "episode_length": 9,
    "action_histogram": [0.25, 0.75],
}


def outlet(folder: Path, mode: str) -> WandbOutlet:
    names = {"project": "test", "entity": None, "name": None, "group": None, "tags": None, "notes": None}
    return WandbOutlet(OmegaConf.create(names), mode, folder=folder, config={"a": 1})  # type: ignore[arg-type]


def use(folder: Path, mode: str) -> float:
    """Log two epochs; return how long the training waited for that, without the end."""
    sink = outlet(folder, mode)
    began = time.monotonic()
    for epoch in (1, 2):
        sink.write_episodes([ROW])
        sink.write({"epoch": epoch, "loss": 0.5 / epoch})
        sink.write_timings({"epoch": epoch, "seconds/collect": 1800.0, "seconds/tokenizer": 1800.0})
    waited = time.monotonic() - began
    sink.close()
    return waited


def records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: LevelDB's log format after a header of seven bytes."""
    assert data[:4] == b":W&B"
    place, whole, block = 7, b"", 2**15
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def logged(folder: Path) -> list[dict[str, str]]:
    """Return the rows in the one file that `wandb sync` would send."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    rows = []
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append(
                {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            )
    return rows


def check(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 6
    episode, epoch, timings = rows[:3]
    assert episode["train_dataset/episode_return"] == "3.5" and episode["train_dataset/episode_num"] == "7"
    assert episode["train_dataset/action_histogram/_type"] == '"histogram"'
    assert json.loads(episode["train_dataset/action_histogram/values"]) == [0.25, 0.75]
    assert epoch["loss"] == "0.5" and epoch["epoch"] == "1"
    assert timings["duration"] == "1" and timings["seconds/collect"] == "1800"


@pytest.mark.slow
def test_offline_rows_are_in_the_file_that_can_be_sent_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert use(tmp_path, "offline") < 0.5
    check(logged(tmp_path))
    assert "wandb sync" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_refuses_leaves_an_offline_run_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert use(tmp_path, "online") < 0.5
    check(logged(tmp_path))
    lines = [line for line in capsys.readouterr().err.splitlines() if "Weights & Biases" in line]
    assert len(lines) == 1 and "does not answer" in lines[0]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_server_that_never_answers_leaves_an_offline_run_too(
    silent_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_outlet, "SECONDS_TO_FINISH", 8.0)
    began = time.monotonic()
    assert use(tmp_path, "online") < 0.5
    assert time.monotonic() - began < wandb_outlet.SECONDS_TO_FINISH + wandb_outlet.SECONDS_BEYOND + 10
    check(logged(tmp_path))
    assert "failed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_dies_or_hangs_is_said_in_one_line_and_nothing_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = tmp_path / "child.py"
    for name, text, seconds in (
        ("dies", "raise SystemExit(3)", 5),
        ("hangs", "import time; time.sleep(99)", 9),
    ):
        child.write_text(text)
        monkeypatch.setattr(wandb_outlet.wandb_child, "__file__", str(child))
        monkeypatch.setattr(wandb_outlet, "SECONDS_TO_FINISH", 1.0)
        monkeypatch.setattr(wandb_outlet, "SECONDS_BEYOND", 1.0)
        (tmp_path / name).mkdir()
        began = time.monotonic()
        assert use(tmp_path / name, "offline") < 0.5
        assert time.monotonic() - began < seconds
        text = capsys.readouterr().err
        assert "has stopped" in text or "did not finish" in text


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_id(tmp_path: Path) -> None:
    for _ in range(2):
        use(tmp_path, "offline")
        time.sleep(1.1)  # Weights & Biases names its folders by the second
    names = {path.name.rpartition("-")[2] for path in tmp_path.glob("wandb/offline-run-*")}
    assert len(names) == 1 and len(list(tmp_path.glob("wandb/offline-run-*"))) == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"WANDB_API_KEY": KEY}, True),
        ({"WANDB_API_KEY": ""}, False),
        ({"NETRC": "netrc"}, True),
        ({"NETRC": "netrc", "WANDB_BASE_URL": "https://other.example"}, False),
        ({"NETRC": "broken"}, False),
        ({"NETRC": "absent"}, False),
    ],
)
def test_a_login_is_found_without_a_network(
    environment: dict[str, str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    Path("netrc").chmod(0o600)
    Path("broken").write_text("machine")
    monkeypatch.setattr(socket, "create_connection", None)
    assert has_login({"HOME": str(tmp_path), **environment}) == expected
    if expected:
        assert chosen_mode("auto", {"HOME": str(tmp_path), **environment}) == "online"
    else:
        assert chosen_mode("auto", {"HOME": str(tmp_path), **environment}) == "disabled"


def test_the_mode_is_heard(tmp_path: Path) -> None:
    logged_in = {"HOME": str(tmp_path), "WANDB_API_KEY": KEY}
    assert chosen_mode("auto", {**logged_in, "WANDB_MODE": "offline"}) == "offline"
    assert chosen_mode("auto", {**logged_in, "WANDB_MODE": "dryrun"}) == "online"
    assert chosen_mode("offline", {"HOME": str(tmp_path)}) == "offline"
    assert chosen_mode("disabled", logged_in) == "disabled"
    with pytest.raises(ConfigError, match="wandb login"):
        chosen_mode("online", {"HOME": str(tmp_path)})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        name: [(event.step, round(event.value, 6)) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def test_tensorboard_has_each_number_and_hides_epochs_that_were_done_again(tmp_path: Path) -> None:
    def write(epochs: Any, loss: float) -> None:
        board = TensorBoardOutlet(tmp_path)
        for epoch in epochs:
            board.write_episodes([{**ROW, "episode_num": epoch}])
            board.write({"epoch": epoch, "loss": loss})
            board.write_timings({"epoch": epoch, "seconds/collect": 36.0})
        board.close()

    write((1, 2, 3), 0.5)
    time.sleep(1.1)  # event files are named by the second
    write((3, 4), 0.25)
    found = scalars(tmp_path / "tensorboard/epochs")
    assert found["loss"] == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]
    assert found["duration"][0] == (1, 0.01)
    episodes = scalars(tmp_path / "tensorboard/episodes")
    assert (1, 3.5) in episodes["train_dataset/episode_return"]
    found = EventAccumulator(str(tmp_path / "tensorboard/episodes"))
    found.Reload()
    histogram = found.Histograms("train_dataset/action_histogram")[0].histogram_value
    assert list(histogram.bucket) == [0.25, 0.75]
