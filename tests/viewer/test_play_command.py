import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playable import contents, publish_agent, run_folder

from irisflow.cli import main

ONE_STEP = ("--record", "film.mp4", "--steps", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run_folder(folder / "run")
    publish_agent(folder / "pong", game="Pong")
    return folder


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def without_agent(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def damaged_weights(run: Path) -> None:
    damage(run / "checkpoints/last/agent.safetensors")


def damaged_manifest(run: Path) -> None:
    damage(run / "checkpoints/last/manifest.json")


def half_of_the_weights(run: Path) -> None:
    path = run / "checkpoints/last/agent.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_settings(run: Path) -> None:
    (run / "config/trainer.yaml").write_text("[")


def agent_of_another_game(run: Path) -> None:
    shutil.rmtree(run / "checkpoints/last")
    shutil.copytree(run.parent / "pong", run / "checkpoints/last")


def corrupt_episodes(run: Path) -> None:
    damage(run / "media/episodes/train/episode_0.safetensors.zst")


def no_episodes(run: Path) -> None:
    shutil.rmtree(run / "media")


BAD_RUNS = [
    (empty, (), 3, "no run: it has neither manifest.json"),
    (without_agent, (), 3, "no agent checkpoints/last"),
    (damaged_weights, (), 3, "agent.safetensors is damaged"),
    (damaged_manifest, (), 3, "manifest.json is damaged"),
    (half_of_the_weights, (), 3, "agent.safetensors is damaged"),
    (no_settings, (), 3, "trainer.yaml is no configuration"),
    (agent_of_another_game, (), 2, "agent of Pong with 6 actions; Breakout has 4"),
    (corrupt_episodes, ("-e",), 3, "episode_0.safetensors.zst: recorded episodes are damaged"),
    (no_episodes, ("-e",), 3, "no saved episodes"),
]


@pytest.mark.parametrize(
    ("spoil", "options", "code", "said"), BAD_RUNS, ids=[case[0].__name__ for case in BAD_RUNS]
)
def test_a_bad_run_is_told_in_one_line_and_left_as_it_is(
    spoil: Callable[[Path], None], options: tuple[str, ...], code: int, said: str,
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / "run")
    before = contents(tmp_path)
    assert main(["play", "run", *options, *ONE_STEP]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("irisflow: ")
    assert said in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 3, "nowhere is no folder"),
        (["run", "-f", "0"], 2, "--fps is 0; allowed: 1 to 240"),
        (["run", "--horizon", "-1"], 2, "--horizon is -1"),
        (["run", "-r", "large"], 2, "invalid choice: 'large'"),
        (["run", "-a", "-w"], 2, "not allowed with argument"),
        (["run", "--record", "film.avi"], 2, "must end in .mp4"),
        (["run", "-w", "--record", "film.mp4"], 2, "nobody is at the keyboard"),
        (["run", "--temperature", "0", *ONE_STEP], 2, "--temperature is 0"),
        (["run", "--checkpoint", "best", *ONE_STEP], 3, "no agent checkpoints/best; there is last"),
        (["run", "--game", "Pong", *ONE_STEP], 2, "agent of Breakout with 4 actions; Pong has 6"),
        (["run", "--game", "Pang", *ONE_STEP], 2, "Pang"),
        (["run", "--device", "gpu", *ONE_STEP], 2, "allowed: auto, cpu"),
        (["run", "--episode-file", "none.zst", *ONE_STEP], 3, "none.zst"),
        (["run", "--web", "--port", "70000"], 2, "--port is 70000"),
    ],
)
def test_a_bad_command_line_is_told_in_one_line(
    arguments: list[str], code: int, said: str, made: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(made)
    before = contents(made)
    assert main(["play", *arguments]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert contents(made) == before


def test_a_film_of_each_mode_is_recorded_by_the_command(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    for mode in ("-h", "-a", "-e"):
        path = tmp_path / f"film{mode}.mp4"
        assert main(["play", "run", mode, "--record", str(path), "--steps", "3"]) == 0
        assert path.stat().st_size > 1000
        said = capfd.readouterr().err
        assert "4 pictures at 15 a second" in said
        assert "Breakout · iris · smoke, seed 0: 3 steps" in said


def test_help_needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["play", "--help"])
    said = capsys.readouterr().out
    for option in ("-w", "-a", "-e", "-r", "-h", "-f", "-s", "--record", "--web"):
        assert option in said
