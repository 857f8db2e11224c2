from pathlib import Path

import numpy as np
import pytest
import torch
from playable import contents, episodes, press, publish_agent, run_folder, same, show, untrained

from irisflow.randomness import torch_stream
from irisflow.viewer import facts
from irisflow.viewer.imagination import Imagination
from irisflow.viewer.screen import HEIGHT, SIDE, WIDTH, draw, frame, futures
from irisflow.viewer.show import Show

VARIANTS = {
    "iris": (),
    "parallel": ("prediction=parallel",),
    "masked": ("prediction=masked",),
    "gru": ("backbone=gru",),
    "mamba": ("backbone=mamba",),
    "retnet, parallel": ("backbone=retnet", "prediction=parallel"),
    "transformer-xl": ("backbone=transformer_xl",),
    "llama": ("backbone=llama",),
    "policy on tokens": ("actor_critic=cnn_lstm_tokens",),
    "residual": ("tokenizer=residual_vq",),
    "rewards by size": ("reward=symlog_twohot",),
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_agent(tmp_path_factory.mktemp("agent") / "it")


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run") / "it")


def moved(one: Show, count: int) -> Show:
    """Steps so often."""
    before = one.session.num_steps
    for _ in range(200):
        if one.session.num_steps == before + count:
            return one
        one.advance()
    raise AssertionError(f"{one.session.num_steps - before} of {count} steps")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_plays_in_both_worlds_beyond_its_window(name: str, tmp_path: Path) -> None:
    one = show(publish_agent(tmp_path / "agent", *VARIANTS[name]), "-h")
    moved(one, 12)
    press(one, "tab", "g", "c")
    moved(one, 12)
    press(one, "f", "pagedown")
    one.advance()
    assert len(one.session.offer.futures) == 4
    press(one, "3")
    assert one.picture().shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["iris", "parallel", "gru", "retnet, parallel"])
def test_a_future_that_is_picked_goes_on_as_one_that_was_drawn(name: str) -> None:
    model = untrained(*VARIANTS[name], game="Catch").world_model
    ones = [Imagination(model, generator=torch_stream(0, "it"), max_blocks=4) for _ in range(2)]
    start = torch.zeros(2, model.tokens_per_frame, dtype=torch.int64)
    for one in ones:
        one.start(start, np.array([1]))
    for action in (0, 1, 2, 2, 1, 0, 1):
        drawn, (offered,) = ones[0].step(action), ones[1].sample(action, 1)
        assert torch.equal(drawn.tokens, offered.tokens)
        assert (drawn.reward, drawn.end) == (offered.reward, offered.end)
        ones[1].choose(action, offered.tokens)


def test_what_the_world_model_expects_does_not_change_where_it_is() -> None:
    model = untrained(game="Catch").world_model
    ones = [Imagination(model, generator=torch_stream(0, "it"), max_blocks=4) for _ in range(2)]
    tokens = torch.randint(model.prediction.head[-1].out_features, (3, model.tokens_per_frame))
    for one in ones:
        one.start(tokens, np.array([1, 2]))
    ones[1].guess(0)
    for frame_tokens, action in zip(tokens, (0, 1, 2), strict=True):
        for one in ones:
            one.observe(action, frame_tokens[None])
        ones[1].guess(2)
    assert torch.equal(ones[0].step(1).tokens, ones[1].step(1).tokens)


def test_the_same_seed_plays_the_same_and_another_one_does_not(agent: Path) -> None:
    pictures = [moved(show(agent, "--seed", seed), 8).session.moment.pictures for seed in "001"]
    assert same(pictures[0]["original"], pictures[1]["original"])
    assert not same(pictures[0]["original"], pictures[2]["original"])


def test_a_real_frame_is_seen_in_three_ways(agent: Path) -> None:
    one = moved(show(agent, "-r", "original"), 1)
    scenes = []
    for _ in range(3):
        scenes.append(one.scene())
        press(one, "v")
    assert [scene.picture.shape for scene in scenes] == [(210, 160, 3), (64, 64, 3), (64, 64, 3)]
    assert not same(scenes[1].picture, scenes[2].picture)
    assert not same(frame(scenes[0]), frame(scenes[1]))


def test_the_header_says_what_the_agent_thinks_and_the_world_model_expects(agent: Path) -> None:
    one = moved(show(agent, "-h"), 3)
    names = [name for name, _ in one.scene().rows]
    wanted = {"step", "return", "action", "value", "entropy", "reward", "predicted reward", "predicted end"}
    assert wanted <= set(names)
    scene = one.scene()
    assert sum(bar.share for bar in scene.bars) == pytest.approx(1)
    assert [bar.name for bar in scene.bars] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    press(one, "h")
    assert not one.scene().bars
    assert not same(draw(scene), one.picture())


def test_a_person_acts_by_keys_and_the_agent_again_after_m(agent: Path) -> None:
    one = show(agent, "-w")
    for key, name in (("left", "LEFT"), ("right", "RIGHT"), ("space", "FIRE")):
        one.session.key_down(key)
        assert dict(moved(one, 1).scene().rows)["action"] == name
        one.session.key_up(key)
    assert dict(moved(one, 1).scene().rows)["action"] == "NOOP"
    assert (one.scene().source, one.scene().player) == ("world model", "you")
    press(one, "m")
    assert one.scene().player == "agent"


def test_the_screen_lists_as_many_actions_as_it_has_room_for_and_the_page_all(tmp_path: Path) -> None:
    one = show(publish_agent(tmp_path / "agent", game="Seaquest"), "-w")
    listed = [row[1:] for row in one.scene().keys if row[0] == "you play"]
    assert (listed[0], listed[1], len(listed)) == (("no key", "NOOP"), ("Space", "FIRE"), 10)
    assert listed[-1] == ("…", "9 more actions")
    assert ("you play", "up left space", "↑ ← Space", "UPLEFTFIRE") in facts.playing_keys(one.session)
    assert len(facts.playing_keys(one.session)) == 18


def test_the_world_model_starts_from_the_frame_that_was_left_and_the_game_waits(agent: Path) -> None:
    one = moved(show(agent, "-r", "agent"), 9)
    real = one.session.moment
    press(one, "tab")
    assert same(one.session.moment.tokens, real.tokens)
    assert same(one.session.moment.pictures["agent"], real.pictures["agent"])
    moved(one, 3)
    press(one, "tab")
    assert one.session.moment is real
    assert dict(one.scene().rows)["step"] == "9"
    assert dict(moved(one, 1).scene().rows)["step"] == "10"


def test_paused_time_stands_still_but_for_single_steps(agent: Path) -> None:
    one = moved(show(agent), 2)
    press(one, ".")
    assert not any(one.advance() for _ in range(5))
    press(one, "n")
    assert [one.advance(), one.advance()] == [True, False]
    press(one, ".")
    assert one.advance()


def test_the_horizon_returns_to_real_frames(agent: Path) -> None:
    one = show(agent, "-a", "--horizon", "5", "-f", "1")
    moved(one, 5)
    assert "horizon of 5 steps" in one.scene().status
    one.advance()
    one.advance()
    assert "real frames" in one.scene().status
    assert dict(one.scene().rows)["step"] == "0"
    press(one, "pageup")
    assert one.session.horizon == 10
    press(one, "pagedown", "pagedown")
    assert one.session.horizon == 5
    for _ in range(20):
        press(one, "pageup")
    assert dict(one.scene().rows)["horizon"] == "no end"


def test_futures_are_offered_one_is_picked_and_shown(agent: Path) -> None:
    one = show(agent, "-w")
    press(one, "f")
    assert not any(one.advance() for _ in range(3))  # waits for an action
    press(one, "left")
    one.advance()
    scene = one.scene()
    assert len(scene.futures) == 4
    assert futures(scene).shape[1] == SIDE
    assert scene.status.startswith("LEFT: pick")
    press(one, "2")
    assert same(one.scene().picture, scene.futures[1])
    assert not one.scene().futures
    real = show(agent)
    press(real, "f")
    assert "Tab" in real.scene().status


def test_changed_tokens_are_those_that_differ(agent: Path) -> None:
    one = moved(show(agent, "-a"), 1)
    before = one.session.moment.tokens
    press(one, "c")
    plain = frame(one.scene())
    moved(one, 1)
    changed = (before != one.session.moment.tokens).any(axis=-1)
    assert same(one.scene().changed, changed)
    assert one.scene().num_changed == changed.sum() > 0
    assert not same(frame(one.scene()), plain)


def test_saved_episodes_are_shown_as_they_were_recorded(by_hand: Path) -> None:
    recorded = episodes("Breakout", 2)
    one = show(by_hand, "-e")
    assert same(one.scene().picture, recorded[0].observations[0].transpose(1, 2, 0))
    moved(one, 3)
    assert same(one.scene().picture, recorded[0].observations[3].transpose(1, 2, 0))
    press(one, "left")
    assert same(one.scene().picture, recorded[0].observations[2].transpose(1, 2, 0))
    press(one, "down")
    assert same(one.scene().picture, recorded[1].observations[0].transpose(1, 2, 0))
    assert "episode 2 of 2 (train/episode_0" in one.scene().status
    press(one, "down", "right", "right", "tab")  # round again, and imagine from its third frame
    assert one.scene().source == "world model"
    press(one, "tab")
    assert one.scene().source == "saved episode"
    assert same(one.scene().picture, recorded[0].observations[2].transpose(1, 2, 0))


def test_watching_leaves_a_run_as_it_was(by_hand: Path) -> None:
    before = contents(by_hand)
    press(moved(show(by_hand, "-h"), 3), "tab")
    moved(show(by_hand, "-e"), 3)
    assert contents(by_hand) == before
