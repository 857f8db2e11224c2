"""Other people's episodes: read, checked, made ours, and used by the pipeline in place of random play."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from irisflow import cli, compositions, params, paths
from irisflow.data.episodes import load_episodes, save_episodes
from irisflow.data.foreign_episodes import find_source
from irisflow.data.importing import first_steps, import_episodes
from irisflow.envs.reduction import resize
from irisflow.envs.toy import Catch
from irisflow.errors import DataError
from irisflow.records import Episode
from irisflow.storage import open_artefact
from irisflow.study import Study
from irisflow.workflow import StudyPlan

MINIGRID = "minigrid:MiniGrid-Empty-5x5-v0"
Arrays = dict[str, np.ndarray]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory with a `params/` of its own."""
    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(compositions, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Compose anew: `params/` has changed."""
    for cached in (compositions.values, compositions._choice_digest, compositions._state, params.compose):
        cached.cache_clear()


def catch(seed: int, *, size: int = 64, has_last: bool = False) -> Arrays:
    """One ball of Catch, as someone else would record it."""
    environment, rng = Catch(size=size), np.random.default_rng(seed)
    frames, rows, is_over = [environment.reset(seed=seed)[0]], [], False
    while not is_over:
        action = int(rng.integers(3))
        frame, reward, is_over, truncated, _ = environment.step(action)
        frames.append(frame)
        rows.append((action, reward, is_over, truncated))
    columns = zip(("actions", "rewards", "terminations", "truncations"), zip(*rows, strict=True), strict=True)
    observations = np.stack(frames if has_last else frames[:-1]).transpose(0, 2, 3, 1)
    return {"observations": observations, **{name: np.array(values) for name, values in columns}}


def save_npz(folder: Path, *episodes: Arrays) -> Path:
    folder.mkdir(exist_ok=True)
    for number, arrays in enumerate(episodes):
        np.savez_compressed(folder / f"{number}.npz", **arrays)
    return folder


def save_minari(name: str, episodes: list[Arrays], **options: object) -> None:
    """Make a data set in Minari's local store."""
    buffers = [
        EpisodeBuffer(id=number, **{key: list(values) for key, values in arrays.items()})
        for number, arrays in enumerate(episodes)
    ]
    space = gymnasium.spaces.Box(0, 255, episodes[0]["observations"].shape[1:], np.uint8)
    spaces = {"observation_space": space, "action_space": gymnasium.spaces.Discrete(3)} | options
    minari.create_dataset_from_buffers(
        name, buffers, author="a", author_email="b@example.org", code_permalink="c", algorithm_name="d",
        description="e", jpeg_encoding=False, **spaces,
    )  # fmt: skip


def minigrid(seed: int, num_steps: int) -> Arrays:
    """Random play in a real environment that is no Atari game, its rendering as observation."""
    environment = gymnasium.make(MINIGRID, render_mode="rgb_array", max_steps=num_steps)
    environment.reset(seed=seed)
    frames, rows = [environment.render()], []
    rng = np.random.default_rng(seed)
    while not (rows and (rows[-1][2] or rows[-1][3])):
        action = int(rng.integers(7))
        _, reward, terminated, truncated, _ = environment.step(action)
        frames.append(environment.render())
        rows.append((action, reward, terminated, truncated))
    columns = zip(("actions", "rewards", "terminations", "truncations"), zip(*rows, strict=True), strict=True)
    return {"observations": np.stack(frames), **{name: np.array(values) for name, values in columns}}


def imported(source: Path | str, *, num_actions: int = 3, size: int = 64) -> list[Episode]:
    return import_episodes(find_source(str(source)), num_actions=num_actions, size=size)


def same(episode: Episode, arrays: Arrays) -> None:
    """An episode is what was recorded, but for a frame after the last action."""
    length = len(arrays["actions"])
    assert (episode.observations.transpose(0, 2, 3, 1) == arrays["observations"][:length]).all()
    assert (episode.actions == arrays["actions"]).all()
    assert (episode.rewards == arrays["rewards"]).all()
    assert (episode.terminated == arrays["terminations"]).all()
    assert (episode.truncated == arrays["truncations"]).all()


def test_npz_episodes_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    recorded = [catch(seed, has_last=seed % 2 == 0) for seed in range(11)]
    episodes = imported(save_npz(tmp_path / "mine", *recorded))
    for episode, arrays in zip(episodes, recorded, strict=True):
        same(episode, arrays)


def test_our_own_files_come_back_as_they_were(tmp_path: Path) -> None:
    episodes = imported(save_npz(tmp_path / "mine", catch(0), catch(1)))
    for name in ("a", "b"):
        save_episodes(tmp_path / "own" / f"{name}.safetensors.zst", episodes, metadata={})
    again = imported(tmp_path / "own")
    for found, one in zip(again, episodes * 2, strict=True):
        for name, array in vars(one).items():
            assert np.array_equal(getattr(found, name), array)


def test_a_minari_data_set_of_a_real_environment_is_imported_by_name_and_by_folder(place: Path) -> None:
    recorded = [minigrid(0, 6), minigrid(1, 4)]
    save_minari("grid/random-v0", recorded, action_space=gymnasium.spaces.Discrete(7))
    by_name = imported("grid/random-v0", num_actions=7)
    by_folder = imported(place / "store/grid/random-v0", num_actions=7)
    for episode, twin, arrays in zip(by_name, by_folder, recorded, strict=True):
        small = np.stack([resize(frame, 64).transpose(1, 2, 0) for frame in arrays["observations"]])
        same(episode, {**arrays, "observations": small})
        assert np.array_equal(episode.observations, twin.observations)
        assert episode.truncated[-1] and not episode.terminated.any()


def test_frames_that_are_not_square_are_reduced_as_the_environment_does(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 100, 70, 3), dtype=np.uint8)
    (episode,) = imported(save_npz(tmp_path / "mine", {**catch(0), "observations": frames}), size=32)
    assert (episode.observations[4] == resize(frames[4], 32)).all()


def test_actions_that_begin_elsewhere_are_counted_from_zero(place: Path) -> None:
    arrays = catch(0)
    shifted = {**arrays, "actions": arrays["actions"] + 5}
    save_minari("toy/shifted-v0", [shifted], action_space=gymnasium.spaces.Discrete(3, start=5))
    (episode,) = imported("toy/shifted-v0")
    assert (episode.actions == arrays["actions"]).all()


def test_the_first_steps_are_whole_episodes_and_the_beginning_of_one(tmp_path: Path) -> None:
    episodes = imported(save_npz(tmp_path / "mine", catch(0), catch(1), catch(2)))
    cut = first_steps(episodes, 13)
    assert [len(episode) for episode in cut] == [9, 4]
    assert cut[0].terminated[-1] and not (cut[1].terminated.any() or cut[1].truncated.any())
    assert sum(map(len, first_steps(episodes, None))) == 27
    assert len(first_steps(episodes, 18)) == 2


BAD = {
    "an action that the game lacks": ({"actions": np.full(9, 3)}, "has the action 3; allowed: those of the game, 0 to 2"),
    "a negative action": ({"actions": np.full(9, -1)}, "has the action -1"),
    "continuous actions": ({"actions": np.zeros((9, 2), np.float32)}, "actions is float32 [9, 2]; allowed: integers"),
    "no steps": ({"actions": np.zeros(0, np.int64)}, "1 step or more"),
    "frames of floats": ({"observations": np.zeros((9, 8, 8, 3), np.float32)}, "is float32 [9, 8, 8, 3]; allowed: uint8"),
    "channels first": ({"observations": np.zeros((9, 3, 8, 8), np.uint8)}, "[9 or 10, height, width, 3]"),
    "grey frames": ({"observations": np.zeros((9, 8, 8), np.uint8)}, "observations is uint8 [9, 8, 8]"),
    "frames without pixels": ({"observations": np.zeros((9, 0, 8, 3), np.uint8)}, "observations is"),
    "too few frames": ({"observations": np.zeros((8, 8, 8, 3), np.uint8)}, "[9 or 10"),
    "an infinite reward": ({"rewards": np.array([0, np.inf] + [0] * 7)}, "rewards is inf at step 1; allowed: finite"),
    "a reward beyond float32": ({"rewards": np.full(9, 1e300)}, "rewards is 1e+300 at step 0"),
    "too few rewards": ({"rewards": np.zeros(8)}, "allowed: numbers [9]"),
    "rewards of words": ({"rewards": np.full(9, "a")}, "rewards is"),
    "an end in between": ({"terminations": np.arange(9) == 3}, "is true at step 3 of 9, and the episode goes on"),
    "a limit in between": ({"truncations": np.ones(9, np.bool_)}, "truncations is true at step 0"),
    "ends that are no flags": ({"terminations": np.full(9, 2)}, "terminations is int64 [9]; allowed: true or false"),
    "objects": ({"rewards": np.array([None] * 9)}, "Object arrays cannot be loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_episode_that_is_not_as_it_must_be_is_one_line_with_file_and_key(
    name: str, tmp_path: Path
) -> None:
    changed, wanted = BAD[name]
    folder = save_npz(tmp_path / "mine", catch(0), {**catch(1), **changed})
    with pytest.raises(DataError) as caught:
        imported(folder)
    message = str(caught.value)
    assert str(folder / "1.npz") in message and wanted in message and "\n" not in message


def test_an_episode_without_a_key_is_refused(tmp_path: Path) -> None:
    arrays = catch(0)
    del arrays["truncations"]
    with pytest.raises(DataError, match=r"0\.npz lacks truncations"):
        imported(save_npz(tmp_path / "mine", arrays))


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "mine", catch(0)) / "0.npz"
    data, rng = path.read_bytes(), np.random.default_rng(0)
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 255
    for bad in (
        b"",
        b"\x80\x04\x95pickle",
        data[:-30],
        data[: len(data) // 2],
        bytes(flipped),
        rng.bytes(500),
    ):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"0\.npz is damaged"):
            imported(path.parent)


def test_a_folder_without_episodes_or_with_both_kinds_is_refused(tmp_path: Path, place: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no episodes"):
        find_source(str(tmp_path / "empty"))
    episodes = imported(save_npz(tmp_path / "mine", catch(0)))
    save_episodes(tmp_path / "mine/own.safetensors.zst", episodes, metadata={})
    with pytest.raises(DataError, match="both kinds"):
        find_source(str(tmp_path / "mine"))
    with pytest.raises(DataError, match="neither a file or folder nor a data set"):
        find_source("grid/absent-v0")


def changed_metadata(store: Path, **changes: object) -> None:
    file = store / "data/metadata.json"
    metadata = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


def test_minari_data_sets_that_are_damaged_or_have_no_frames_are_refused(place: Path) -> None:
    save_minari("toy/whole-v0", [catch(0), catch(1)])
    whole = place / "store/toy/whole-v0"
    frames, box = json.loads((whole / "data/metadata.json").read_text())["observation_space"], json.dumps(
        {"type": "Box", "dtype": "float32", "shape": [2], "low": [0, 0], "high": [1, 1]}
    )  # fmt: skip
    for changes, wanted in (
        ({"observation_space": None}, "does not state observation_space"),
        ({"observation_space": box}, "allowed: RGB frames"),
        ({"action_space": box}, "allowed: discrete ones"),
        ({"total_episodes": "all"}, "total_episodes is 'all'"),
        ({"total_episodes": 3}, "episode 2 is damaged"),
        ({"data_format": "vhs"}, "is damaged or no data set of Minari"),
        ({"observation_space": frames.replace("uint8", "object")}, "is damaged or no data set of Minari"),
    ):
        copy = place / "copy"
        shutil.copytree(whole, copy)
        changed_metadata(copy, **changes)
        with pytest.raises(DataError, match=wanted) as caught:
            imported(copy)
        assert "\n" not in str(caught.value)
        shutil.rmtree(copy)
    with pytest.raises(DataError, match="has 3 actions, the game 4"):
        imported(whole, num_actions=4)
    for file, data in (
        ("metadata.json", b"{"),
        ("metadata.json", b"[]"),
        ("main_data.hdf5", b"no HDF5 at all"),
    ):
        shutil.copytree(whole, place / "copy")
        (place / "copy/data" / file).write_bytes(data)
        with pytest.raises(DataError):
            imported(place / "copy")
        shutil.rmtree(place / "copy")


def command(*words: str) -> int:
    forget()
    return cli.main(words)


def test_a_pretrained_tokenizer_stands_on_imported_episodes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("--scale", "smoke", "--game", "Catch", "--seed", "0")
    save_npz(place / "mine", *(catch(seed) for seed in range(3)))
    assert command("import-dataset", "mine", "--name", "balls", "--game", "Catch") == 0
    chosen = ("--override", "recording=balls")
    assert command("collect", *run, *chosen) == 0
    recording = paths.recording("smoke", "Catch", 0)
    episodes, about = load_episodes(recording / paths.EPISODES)
    assert (len(episodes), about["game"]) == (3, "Catch")
    same(episodes[1], catch(1))
    assert command("pretrain-tokenizer", *run, "--tokenizer", "iris", *chosen) == 0
    artefact = open_artefact(paths.tokenizer("smoke", "iris", "own", "Catch", 0), kind="tokenizer")
    assert artefact.about["recordings"] == {str(recording / paths.EPISODES): 27}
    capsys.readouterr()
    assert command("collect", *run, *chosen) == 0
    assert "is current" in capsys.readouterr().err
    assert command("collect", *run, *chosen, "--override", "recording.num_steps=12") == 0
    assert [len(episode) for episode in load_episodes(recording / paths.EPISODES)[0]] == [9, 3]
    capsys.readouterr()
    assert command("collect", "--scale", "smoke", "--game", "Pong", "--seed", "0", *chosen) == 2
    assert "has no episodes of Pong; there are: Catch" in capsys.readouterr().err


def test_other_episodes_under_a_name_need_force_and_are_another_digest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def digest() -> str:
        forget()
        return compositions.planned_digest(
            "collect", params.Choice("smoke", overrides=("recording=balls",)), "Catch", 0
        )

    words = ("import-dataset", "mine", "--name", "balls", "--game", "Catch")
    save_npz(place / "mine", catch(0))
    assert command(*words) == 0
    first = digest()
    save_npz(place / "mine", catch(1))
    assert command(*words) == 2
    assert "--force replaces them" in capsys.readouterr().err
    assert digest() == first
    assert command(*words, "--force") == 0
    assert digest() != first
    episodes, run = paths.imported("balls", "Catch") / paths.EPISODES, ("--scale", "smoke", "--game", "Catch", "--seed", "0")
    whole = episodes.read_bytes()
    episodes.write_bytes(whole[:-9] + b"x" + whole[-8:])
    assert command("collect", *run, "--override", "recording=balls") == 3
    told = capsys.readouterr().err
    assert "is damaged" in told and "Import it again with `irisflow import-dataset`" in told
    assert episodes.with_name(f"{episodes.name}.corrupt-sha256").exists()
    episodes.write_bytes(whole)
    file = place / "params/recording/balls.yaml"
    file.write_text(file.read_text().replace("Catch: ", "Catch: 0"))
    assert command("collect", *run, "--override", "recording=balls") == 3
    assert "holds other episodes than params/recording/balls.yaml names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (("mine", "--name", "balls", "--game", "Pang"), 2, "nearest: Pong"),
        (("mine", "--name", "../balls", "--game", "Catch"), 2, "is not a name"),
        (("mine", "--name", "random", "--game", "Catch"), 2, "is no imported data set"),
        (("mine", "--name", "balls", "--game", "Catch", "--size", "4"), 2, "16 to 512"),
        (("mine", "--name", "balls"), 2, "--game"),
        (("absent", "--name", "balls", "--game", "Catch"), 3, "absent is neither"),
        (("mine", "--name", "balls", "--game", "Catch"), 3, "rewards is nan at step 2"),
    ],
)  # fmt: skip
def test_nothing_is_written_on_error(
    words: tuple[str, ...], code: int, wanted: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_npz(place / "mine", catch(0), {**catch(1), "rewards": np.array([0, 0, np.nan] + [0] * 6)})
    before = sorted(place.rglob("*"))
    assert command("import-dataset", *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("irisflow: ") and wanted in line
    assert [path for path in sorted(place.rglob("*")) if "kept" not in path.parts] == before


def test_imported_episodes_that_are_gone_or_too_large_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_npz(place / "mine", catch(0))
    assert command("import-dataset", "mine", "--name", "balls", "--game", "Catch", "--size", "32") == 0
    run = ("collect", "--scale", "smoke", "--game", "Catch", "--seed", "0", "--override", "recording=balls")
    assert command(*run) == 3
    assert "32 pixels a side, env.train.size is 64. Import it again with --size 64" in capsys.readouterr().err
    plan = StudyPlan(Study("it", "It", "smoke", ["Catch"], ["iris"], "iris", [0], overrides=["recording=balls"]))
    folder = paths.imported("balls", "Catch")
    assert plan.imported(scale="smoke", game="Catch", seed="0") == paths.recorded(folder)
    shutil.rmtree(place / "data")
    assert command(*run) == 3
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"recording=balls: .* does not exist. Import it"):
        plan.imported(scale="smoke", game="Catch", seed="0")
    plan.study.overrides = []
    assert plan.imported(scale="smoke", game="Catch", seed="0") == []
