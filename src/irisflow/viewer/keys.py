"""The keyboard: which key does what, and which of a game's actions held keys mean. Names, not key codes.

A window and a page translate their own key events to the names here, so that both are played alike.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from irisflow.games import FULL_ACTIONS

# Key -> the part of an action that it stands for.
PARTS = {
    "up": "UP", "down": "DOWN", "left": "LEFT", "right": "RIGHT", "space": "FIRE",
}  # fmt: skip
ORDER = ("UP", "DOWN", "RIGHT", "LEFT", "FIRE")  # as the emulator spells an action: UPRIGHTFIRE
DIGITS = "1234567890"
LABELS = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "space": "Space", "tab": "Tab", "enter": "Enter",
    "escape": "Esc", "pageup": "PgUp", "pagedown": "PgDn",
}  # fmt: skip


@dataclass(frozen=True)
class Binding:
    """A key that is no action of the game: what it does, in one word for code and a few for people."""

    key: str
    command: str
    meaning: str
    group: str


BINDINGS = (
    Binding("tab", "switch_source", "real / world model", "what"),
    Binding("m", "switch_player", "you / agent", "what"),
    Binding("v", "next_view", "kind of picture", "what"),
    Binding("enter", "reset", "start again", "time"),
    Binding(".", "pause", "pause", "time"),
    Binding("n", "single_step", "single step", "time"),
    Binding("[", "slower", "slower", "time"),
    Binding("]", "faster", "faster", "time"),
    Binding("pageup", "longer_horizon", "longer horizon", "world model"),
    Binding("pagedown", "shorter_horizon", "shorter horizon", "world model"),
    Binding("f", "futures", "pick a future", "world model"),
    Binding("g", "tokens", "token grid", "show"),
    Binding("c", "changes", "changed tokens", "show"),
    Binding("h", "header", "header", "show"),
    Binding(",", "record", "record / stop", "show"),
    Binding("escape", "quit", "quit", "show"),
)
BROWSING = (
    Binding("left", "back", "one step back", "episode"),
    Binding("right", "forward", "one step on", "episode"),
    Binding("up", "previous_episode", "previous episode", "episode"),
    Binding("down", "next_episode", "next episode", "episode"),
)
COMMANDS = {binding.key: binding.command for binding in BINDINGS}
BROWSING_COMMANDS = {binding.key: binding.command for binding in BROWSING}


@dataclass(frozen=True)
class Keymap:
    """The actions of one game by name, and the keys that mean them.

    Names are the emulator's (NOOP, UPFIRE, ...); where nothing says what actions mean, they are `action 0`, ... and
    the keys are digits.
    """

    names: tuple[str, ...]
    has_meanings: bool

    @classmethod
    def of(cls, num_actions: int, full_action_ids: Sequence[int] | None) -> "Keymap":
        """Return the keymap of an environment."""
        if full_action_ids is None:
            return cls(tuple(f"action {index}" for index in range(num_actions)), False)
        return cls(tuple(FULL_ACTIONS[index] for index in full_action_ids), True)

    @property
    def keys(self) -> frozenset[str]:
        """The keys that act in the game."""
        if not self.has_meanings:
            return frozenset(DIGITS[: len(self.names)])
        used = "".join(self.names)
        return frozenset(key for key, part in PARTS.items() if part in used.replace("NOOP", ""))

    def action(self, held: Set[str], tapped: Set[str] = frozenset()) -> int:
        """Return the action that keys mean: of those whose parts are all held, the one with most parts.

        `tapped` are keys that went down since the last action; between actions with as many parts, these decide.
        """
        down = (held | tapped) & self.keys
        if not self.has_meanings:
            chosen = sorted(down & tapped) or sorted(down)
            return DIGITS.index(chosen[0]) if chosen else 0
        pressed = {PARTS[key] for key in down}
        fresh = {PARTS[key] for key in tapped & self.keys}
        parts = [parts_of(name) for name in self.names]
        fitting = [index for index, wanted in enumerate(parts) if wanted <= pressed]
        if not fitting:
            return 0
        return max(fitting, key=lambda index: (len(parts[index]), len(parts[index] & fresh), -index))

    def table(self) -> list[tuple[tuple[str, ...], str]]:
        """Return the keys that mean each action together, and its name; those with the fewest keys first.

        No key at all means NOOP, or the game's first action where it has no NOOP. Of actions without meanings, those from
        the eleventh on have no keys and are not in the table.
        """
        if self.has_meanings:
            rows = [(_keys_of(name), name) for name in self.names]
        else:
            rows = [((key,), name) for key, name in zip(DIGITS, self.names, strict=False)]
        if all(keys for keys, _ in rows):
            rows.insert(0, ((), self.names[0]))
        return sorted(rows, key=lambda row: len(row[0]))

    def text(self, game: str) -> str:
        """Return the table to print: keys on the left, the actions of a game on the right."""
        rows = [f"  {label(*keys):<12} {name}" for keys, name in self.table()]
        lost = [] if self.has_meanings else self.names[len(DIGITS) :]
        rows += [f"  {'-':<12} {name}" for name in lost]
        return "\n".join([f"{game}: {len(self.names)} actions", *rows])


def parts_of(name: str) -> frozenset[str]:
    """Return the parts of an action's name: UP, RIGHT and FIRE of UPRIGHTFIRE; none of NOOP."""
    if name == "NOOP":
        return frozenset()
    found, rest = set(), name
    while rest:
        part = next((part for part in ORDER if rest.startswith(part)), None)
        if part is None:
            raise ValueError(f"{name} is no action of the emulator")
        found.add(part)
        rest = rest.removeprefix(part)
    return frozenset(found)


def _keys_of(name: str) -> tuple[str, ...]:
    """Return the keys of an action of the emulator."""
    parts = parts_of(name)
    return tuple(key for key, part in PARTS.items() if part in parts)


def label(*keys: str) -> str:
    """Return what is printed on keys that are pressed together."""
    return " ".join(LABELS.get(key, key.upper()) for key in keys) or "no key"
