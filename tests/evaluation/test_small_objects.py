"""Small objects are what is small and moves; a tokenizer that does not draw them, or draws them everywhere, is found out."""

import numpy as np
import pytest
import torch
from tiny_catch import CPU
from torch import Tensor
from torch.nn import functional as F

from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.atari import AtariEnvironment
from irisflow.evaluation.small_objects import GAP, SmallObjects, _small_components, small_objects
from irisflow.records import Episode

LENGTH = 16
NUM_SEEN = LENGTH - 2 * GAP
BALL = (236, 236, 236)


def scenery() -> np.ndarray:
    """Return a picture of dark and light parts."""
    picture = np.full((3, 64, 64), 20, np.uint8)
    picture[:, :10] = np.array([200, 72, 72])[:, None, None]
    picture[:, 40:50, 40:50] = 120
    return picture


def with_ball(picture: np.ndarray, t: int) -> np.ndarray:
    """Return a picture on which a ball of four pixels flies."""
    row, column = corner(t)
    drawn = picture.copy()
    drawn[:, row : row + 2, column : column + 2] = np.array(BALL)[:, None, None]
    return drawn


def corner(t: int) -> tuple[int, int]:
    return 14 + 3 * t, 8 + 2 * t


def episode(frames: list[np.ndarray]) -> Episode:
    n = len(frames)
    no = np.zeros(n, bool)
    return Episode(np.stack(frames), np.zeros(n, np.int64), np.zeros(n, np.float32), no, no)


def flight() -> list[np.ndarray]:
    return [with_ball(scenery(), t) for t in range(LENGTH)]


def found(*recording: list[np.ndarray]) -> SmallObjects:
    return small_objects([episode(frames) for frames in recording], device=CPU)


def as_pictures(frames: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(frames))


def test_a_flying_ball_is_found_wherever_there_are_frames_before_and_after_and_nothing_else_is() -> None:
    objects = found(flight())
    assert len(objects) == NUM_SEEN
    expected = [
        (t, (corner(t)[0] + down) * 64 + corner(t)[1] + right)
        for t in range(GAP, LENGTH - GAP)
        for down in (0, 1)
        for right in (0, 1)
    ]
    assert list(zip(objects.steps.tolist(), objects.places.tolist(), strict=True)) == expected
    assert objects.owners.tolist() == [number for number in range(NUM_SEEN) for _ in range(4)]
    assert set(map(tuple, objects.colours.tolist())) == {BALL}


def test_the_frames_themselves_show_all_objects_and_the_empty_scene_none() -> None:
    objects = found(flight())
    frames, empty = as_pictures(flight()), as_pictures([scenery()] * LENGTH)
    assert (objects.recall(frames), objects.recall(empty)) == (1, 0)


def test_a_ball_that_is_painted_out_of_some_frames_is_missed_there() -> None:
    drawn = [scenery() if t in (5, 6) else frame for t, frame in enumerate(flight())]
    assert found(flight()).recall(as_pictures(drawn)) == pytest.approx(1 - 2 / NUM_SEEN)


def test_a_blurred_picture_loses_the_ball_that_a_paler_one_keeps() -> None:
    objects, frames = found(flight()), as_pictures(flight())
    blurred = F.avg_pool2d(frames.float(), 5, stride=1, padding=2).byte()
    assert objects.recall(blurred) == 0
    for strength, recall in ((0.7, 1), (0.3, 0)):
        paler = frames.float() * strength + as_pictures([scenery()] * LENGTH).float() * (1 - strength)
        assert objects.recall(paler.round().byte()) == recall


def test_a_ball_of_another_colour_or_at_another_place_is_not_this_one() -> None:
    objects, frames = found(flight()), as_pictures(flight())
    black = frames.clone()
    black[frames == BALL[0]] = 0
    assert objects.recall(black) == 0
    assert objects.recall(frames.roll(4, dims=-1)) == 0


@pytest.mark.parametrize("level", [130, 255])
def test_a_grey_picture_shows_every_ball_and_draws_none(level: int) -> None:
    objects = found(flight())
    grey = torch.full((LENGTH, 3, 64, 64), level, dtype=torch.uint8)
    assert objects.are_shown(grey).all() and objects.recall(grey) == 0


def test_a_ball_that_is_drawn_wherever_it_ever_was_is_not_drawn() -> None:
    objects = found(flight())
    trail = as_pictures(flight()).amax(dim=0).expand(LENGTH, -1, -1, -1)
    assert objects.are_shown(trail).all() and objects.recall(trail) == 0


def test_what_rests_what_stays_changed_and_what_is_large_is_no_object() -> None:
    changing = [scenery() for _ in range(LENGTH)]
    for frame in changing[5:]:
        frame[:, 60:62, 4:6] = 255  # a digit of the score
    assert len(found([with_ball(scenery(), 3)] * LENGTH)) == 0
    assert len(found(changing)) == 0
    for width, number in ((8, NUM_SEEN), (9, 0)):
        moving = [scenery() for _ in range(LENGTH)]
        for t, frame in enumerate(moving):
            frame[:, 14 + 3 * t : 16 + 3 * t, 4 : 4 + width] = 236
        assert len(found(moving)) == number


def test_an_episode_is_not_compared_with_the_next() -> None:
    resting = [[with_ball(scenery(), t)] * LENGTH for t in range(8)]
    assert len(found(*resting)) == 0
    assert len(found(flight(), flight())) == 2 * NUM_SEEN
    assert len(found(flight()[:8], flight()[8:])) == 0, "none is longer than two gaps"
    assert len(found([scenery()])) == 0


@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_the_ball_of_a_real_game_is_found_and_its_score_and_walls_are_not(game: str) -> None:
    environment = AtariEnvironment(game, max_episode_steps=1000)
    episodes = record_episodes(
        environment, RandomPolicy(environment.num_actions, np.random.default_rng(0)), 300, seed=0
    )
    environment.close()
    objects = small_objects(episodes, device=CPU)
    sizes = torch.bincount(objects.owners)
    of_balls = objects.owners[(sizes <= 6)[objects.owners]].unique()
    assert len(objects.steps[torch.isin(objects.owners, of_balls)].unique()) > 0.4 * 300
    assert (objects.places // 64 > 8).all(), "score and upper wall"
    frames = torch.from_numpy(np.concatenate([episode.observations for episode in episodes]))
    assert objects.recall(frames) == 1
    blurred = F.avg_pool2d(frames.float(), 5, stride=1, padding=2).byte()
    assert objects.recall(blurred) < 0.7


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_small_components_are_those_of_a_flood(share: float) -> None:
    mask = np.random.default_rng(0).random((4, 24, 32)) < share
    labels = _small_components(torch.from_numpy(mask)).numpy()
    for image, told in zip(mask, labels, strict=True):
        expected = sorted(part for part in flooded(image) if len(part) <= 24 * 32 // 256)
        parts = [list(zip(*np.nonzero(told == label), strict=True)) for label in np.unique(told[told > 0])]
        assert sorted([tuple(map(int, pixel)) for pixel in part] for part in parts) == expected
        assert expected


def test_a_winding_object_is_one_up_to_the_largest_size() -> None:
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    for image, size in enumerate((16, 17)):
        mask[image, range(20, 20 + size), range(20, 20 + size)] = True
    labels = _small_components(mask)
    assert [int((image > 0).sum()) for image in labels] == [16, 0]
    assert len(labels[0].unique()) == 2


def flooded(image: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the pixels of each component."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(image), strict=True)}
    parts = []
    while left:
        border, part = [left.pop()], []
        while border:
            row, column = border.pop()
            part.append((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            border += near
        parts.append(sorted(part))
    return parts
