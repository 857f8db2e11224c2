from pathlib import Path

import av
import numpy as np
import pytest
from playable import press, publish_agent, run_folder, show

from irisflow.data.episodes import load_episodes
from irisflow.viewer.film import film
from irisflow.viewer.recording import Film
from irisflow.viewer.screen import HEIGHT, WIDTH


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run") / "it", game="Catch", num_episodes=0)


def pictures(path: Path) -> tuple[list[np.ndarray], float]:
    """All pictures of a film, and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], float(
            stream.average_rate
        )


def test_a_film_shows_what_the_screen_draws(run: Path, tmp_path: Path) -> None:
    one, again = (show(run, "-a", "-h", "--horizon", "50") for _ in range(2))
    path = tmp_path / "it.mp4"
    assert film(one, path, num_steps=6) == 7
    shown, rate = pictures(path)
    assert len(shown) == 7
    assert rate == 15
    expected = [again.picture()]
    for _ in range(6):
        again.advance()
        expected.append(again.picture())
    assert shown[0].shape == (HEIGHT, WIDTH, 3)
    left = np.s_[60:540, 30:510]  # the frame: the rate beside it is measured
    for one_shown, one_drawn in zip(shown, expected, strict=True):
        difference = np.abs(one_shown[left].astype(int) - one_drawn[left].astype(int))
        assert difference.mean() < 6
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_film_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "it.mp4"
    one = Film(path, fps=15)
    one.add(np.zeros((64, 64, 3), np.uint8))
    one.discard()
    Film(path, fps=15).close()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_holds_what_was_played(run: Path, tmp_path: Path) -> None:
    one = show(run, "--media", str(tmp_path / "media"))
    press(one, ",")
    frames = []
    for _ in range(7):
        frames.append(one.session.moment.pictures["downscaled"])
        one.advance()
    frames.append(one.session.moment.pictures["downscaled"])
    assert one.scene().is_recording
    press(one, ",")
    press(one, ".")
    one.advance()
    assert "recorded" in one.scene().status
    film_file, arrays_file = sorted((tmp_path / "media" / "recordings").iterdir())
    arrays = np.load(arrays_file)
    assert (arrays["frames"] == np.stack(frames)[: len(arrays["frames"])]).all()
    assert len(arrays["frames"]) == len(pictures(film_file)[0]) >= 7
    assert arrays["actions"][0] == -1
    assert set(arrays["actions"][1:]) <= {0, 1, 2}
    assert not arrays["imagined"].any()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_finished_trajectory_is_saved_if_the_person_wants(run: Path, tmp_path: Path, answer: str) -> None:
    one = show(run, "-s", "--media", str(tmp_path / "media"))
    while not one.session.question:
        one.advance()
    assert "9 steps" in one.scene().question
    waiting = one.session.num_steps
    one.advance()
    assert one.session.num_steps == waiting
    press(one, "m", answer)
    assert not one.session.question
    saved = list((tmp_path / "media").rglob("*.safetensors.zst"))
    if answer == "n":
        assert not (tmp_path / "media").exists()
        return
    (episode,), about = load_episodes(saved[0])
    assert len(episode) == 9
    assert episode.score in (-1.0, 1.0)
    assert episode.terminated[-1]
    assert about["game"] == "Catch"
    assert {path.suffix for path in saved[0].parent.iterdir()} == {".mp4", ".npz", ".zst"}
    arrays = np.load(next(saved[0].parent.glob("*.npz")))
    assert arrays["frames"].shape == (10, 64, 64, 3)
    again = show(run, "-e", "--media", str(tmp_path / "media"))
    assert (again.scene().picture == arrays["frames"][0]).all()


def test_an_agent_of_the_pipeline_gets_its_recordings_outside_of_the_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish_agent(Path("results/smoke/agents/iris/Catch/seed-0"), game="Catch")
    one = show(Path("results/smoke/agents/iris/Catch/seed-0"))
    press(one, ",")
    one.advance()
    one.close()
    assert list(Path("outputs/played/smoke/iris/Catch/0/recordings").glob("*.npz"))
