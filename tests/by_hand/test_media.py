"""Episodes and pictures that a run leaves: bounded as IRIS bounds them, the same whenever they are written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from irisflow import params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.by_hand.media import EpisodeFolder, imagined_episodes, reconstruction_sheet
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.data.episodes import load_episodes
from irisflow.data.replay import ReplayBuffer
from irisflow.envs.toy import Catch
from irisflow.records import Episode
from irisflow.training.pretrain import as_replay
from workspace import snapshot


def episode(score: float, length: int = 3, *, is_over: bool = True) -> Episode:
    ends = np.arange(length) == (length - 1 if is_over else length)
    rewards = np.zeros(length, np.float32)
    rewards[0] = score
    frames = np.full((length, 3, 16, 16), int(score) % 256, np.uint8)
    return Episode(frames, np.zeros(length, np.int64), rewards, ends, np.zeros(length, np.bool_))


def folder_with(path: Path, scores: list[float], *, max_num: int) -> EpisodeFolder:
    path.mkdir(exist_ok=True)
    saved = EpisodeFolder(path, max_num=max_num, notes={"game": "Catch"})
    for number, score in enumerate(scores):
        saved.save(episode(score), number=number, epoch=number + 1)
    return saved


def test_the_newest_episodes_and_the_best_one_are_kept(tmp_path: Path) -> None:
    folder_with(tmp_path / "train", [1, 9, 2, 3, 4], max_num=3)
    names = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert names == [
        "best_episode_1_epoch_2.safetensors.zst",
        "episode_2_epoch_3.safetensors.zst",
        "episode_3_epoch_4.safetensors.zst",
        "episode_4_epoch_5.safetensors.zst",
    ]
    (best,), notes = load_episodes(tmp_path / "train" / names[0])
    assert best.score == 9 and notes == {"game": "Catch", "epoch": "2", "episode": "1", "return": "9"}


def test_an_epoch_that_is_done_again_changes_nothing(tmp_path: Path) -> None:
    saved = folder_with(tmp_path / "train", [1, 9, 2, 9, 4], max_num=3)
    before = snapshot(tmp_path)
    for number, score in ((2, 2), (3, 9), (4, 4)):
        saved.save(episode(score), number=number, epoch=number + 1)
    assert snapshot(tmp_path) == before


def test_an_open_episode_is_replaced_when_it_goes_on_and_is_never_the_best(tmp_path: Path) -> None:
    saved = folder_with(tmp_path, [1], max_num=3)
    saved.save(episode(5, is_over=False), number=1, epoch=2, is_finished=False)
    saved.save(episode(5, length=6), number=1, epoch=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "best_episode_1_epoch_3.safetensors.zst",
        "episode_0_epoch_1.safetensors.zst",
        "episode_1_epoch_3.safetensors.zst",
    ]


def test_a_damaged_best_episode_is_replaced_by_the_next(tmp_path: Path) -> None:
    saved = folder_with(tmp_path, [9], max_num=2)
    (tmp_path / "best_episode_0_epoch_1.safetensors.zst").write_bytes(b"damaged")
    saved.save(episode(1), number=1, epoch=2)
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_episode_1_epoch_2.safetensors.zst"]


def test_nothing_is_saved_where_none_is_asked_for_and_left_overs_of_a_kill_go(tmp_path: Path) -> None:
    (tmp_path / ".episode.1.tmp").write_bytes(b"half")
    folder_with(tmp_path, [1, 2], max_num=0)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module", params=["iris", "policy_on_tokens"])
def agent(request: pytest.FixtureRequest) -> Agent:
    torch.manual_seed(0)
    whole = params.settings_from(["env.train.id=Catch", "scale=smoke", f"variant={request.param}"])
    return build_agent(whole, num_actions=3).eval()


@pytest.fixture(scope="module")
def dataset() -> ReplayBuffer:
    episodes = record_episodes(Catch(size=64), RandomPolicy(3, np.random.default_rng(0)), 60, seed=0)
    return as_replay(episodes, time_limit_is_end=True)


def imagined(
    agent: Agent, dataset: ReplayBuffer, *, epoch: int, num: int = 5, horizon: int = 4
) -> list[Episode]:
    return imagined_episodes(agent, dataset, num=num, horizon=horizon, burn_in=3, seed=0, epoch=epoch)


def test_imagined_episodes_are_episodes_cut_at_their_first_end(agent: Agent, dataset: ReplayBuffer) -> None:
    episodes = imagined(agent, dataset, epoch=1)
    assert len(episodes) == 5
    for one in episodes:
        assert one.observations.shape[1:] == (3, 64, 64) and one.observations.dtype == np.uint8
        assert not one.terminated[:-1].any() and (one.terminated[-1] or len(one) == 4)
        assert set(np.unique(one.rewards)) <= {-1.0, 0.0, 1.0}
    assert any(one.terminated[-1] for one in episodes), "some end, or this test shows nothing"


def test_imagining_to_look_at_is_repeatable_and_moves_no_other_random_stream(
    agent: Agent, dataset: ReplayBuffer
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (imagined(agent, dataset, epoch=epoch) for epoch in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    actions = [[one.actions.tolist() for one in episodes] for episodes in (first, again, other)]
    assert actions[0] == actions[1] != actions[2]


def test_imagination_may_be_longer_than_the_window(agent: Agent, dataset: ReplayBuffer) -> None:
    assert max(len(one) for one in imagined(agent, dataset, epoch=3, num=64, horizon=11)) > 4


def test_a_sheet_shows_frames_above_their_reconstructions(agent: Agent, dataset: ReplayBuffer) -> None:
    sheet = reconstruction_sheet(agent.tokenizer, dataset, length=4, seed=0, epoch=1)
    assert sheet.dtype == np.uint8 and sheet.shape[1:] == (4 * 66 + 2, 3)
    frame = np.ascontiguousarray(sheet[2:66, 2:66].transpose(2, 0, 1))
    seen = np.concatenate([one.observations for one in dataset.episodes()])
    assert (seen == frame).all(axis=(1, 2, 3)).any(), "the first picture is a frame of the dataset"
    drawn = agent.tokenizer.reconstruct(torch.from_numpy(frame)[None].float() / 255)[0]
    expected = (drawn * 255).round().byte().numpy().transpose(1, 2, 0)
    assert np.abs(sheet[68:132, 2:66].astype(int) - expected).max() <= 1
