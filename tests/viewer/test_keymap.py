import re
from functools import cache

import pytest
from playable import whole_settings

from irisflow import games
from irisflow.envs.make import make_environment
from irisflow.games import FULL_ACTIONS
from irisflow.viewer import keys
from irisflow.viewer.keys import Keymap, parts_of
from workspace import ROOT

FULL = Keymap(FULL_ACTIONS, True)
BREAKOUT = Keymap.of(4, (0, 1, 3, 4))


def test_every_action_of_the_emulator_is_reached_by_the_keys_of_its_parts() -> None:
    by_part = {part: key for key, part in keys.PARTS.items()}
    for index, name in enumerate(FULL_ACTIONS):
        assert FULL.action({by_part[part] for part in parts_of(name)}) == index
    assert parts_of("DOWNLEFTFIRE") == {"DOWN", "LEFT", "FIRE"}
    with pytest.raises(ValueError, match="JUMP"):
        parts_of("JUMP")


@pytest.mark.parametrize(
    ("held", "tapped", "name"),
    [
        (set(), set(), "NOOP"),
        ({"left"}, set(), "LEFT"),
        ({"up"}, set(), "NOOP"),  # a key that this game does not have
        ({"left"}, {"space"}, "FIRE"),  # there is no LEFTFIRE: what was pressed last wins
        ({"space"}, {"left"}, "LEFT"),
        (set(), {"right"}, "RIGHT"),  # pressed and let go between two steps
    ],
)
def test_what_keys_mean_where_their_sum_is_no_action(held: set[str], tapped: set[str], name: str) -> None:
    assert BREAKOUT.names[BREAKOUT.action(held, tapped)] == name


def test_a_game_shows_the_keys_that_it_has() -> None:
    assert BREAKOUT.table() == [
        ((), "NOOP"),
        (("space",), "FIRE"),
        (("right",), "RIGHT"),
        (("left",), "LEFT"),
    ]
    assert Keymap.of(3, (4, 0, 3)).action(set()) == 1  # Catch: LEFT, NOOP, RIGHT
    assert FULL.table()[-1] == (("down", "left", "space"), "DOWNLEFTFIRE")
    assert Keymap(("UP", "DOWN"), True).table()[0] == ((), "UP")  # no NOOP: no key means the first action


def test_every_row_of_the_table_means_its_action() -> None:
    for keymap in (FULL, BREAKOUT, Keymap(("UP", "DOWN"), True), Keymap.of(12, None)):
        assert all(keymap.names[keymap.action({*held})] == name for held, name in keymap.table())
        assert {name for _, name in keymap.table()} == {
            *keymap.names[:10],
            *(keymap.names * keymap.has_meanings),
        }


def test_the_keys_of_a_game_are_printed() -> None:
    lines = BREAKOUT.text("Breakout").splitlines()
    assert [line.split() for line in lines[1:3]] == [["no", "key", "NOOP"], ["Space", "FIRE"]]
    assert lines[0] == "Breakout: 4 actions"
    assert Keymap.of(12, None).text("it").splitlines()[-1].split() == ["-", "action", "11"]


def test_actions_without_meanings_are_digits() -> None:
    unknown = Keymap.of(2, None)
    assert unknown.table() == [((), "action 0"), (("1",), "action 0"), (("2",), "action 1")]
    assert [unknown.action(held) for held in (set(), {"1"}, {"2"})] == [0, 0, 1]


@pytest.mark.parametrize("game", [*games.ATARI_100K, "Catch"])
def test_every_action_of_every_game_has_its_keys(game: str) -> None:
    environment = make_environment(whole_settings(game=game).env.test)
    keymap = Keymap.of(environment.num_actions, environment.full_action_ids)
    environment.close()
    by_part = {part: key for key, part in keys.PARTS.items()}
    for index, name in enumerate(keymap.names):
        assert keymap.action({by_part[part] for part in parts_of(name)}) == index
    assert documented()[game] == ("all 18" if len(keymap.names) == 18 else ", ".join(keymap.names))


@cache
def documented() -> dict[str, str]:
    """The actions of each game in docs/playing.md."""
    page = (ROOT / "docs/playing.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z]\w+(?:, \w+)*) \| \d+ \| (.*) \|$", page, re.MULTILINE)
    return {game: actions for games_, actions in rows for game in games_.split(", ")}


def test_no_key_has_two_meanings() -> None:
    names = [binding.key for binding in keys.BINDINGS]
    assert len(set(names)) == len(names)
    assert not {*names} & {*keys.PARTS, *keys.DIGITS, "y"}
    assert not {b.key for b in keys.BROWSING} & {*names}
