"""What happens in the viewer: sources, players, commands and time. No window, no torch."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from irisflow.errors import DataError
from irisflow.viewer import keys
from irisflow.viewer.imagination import Future
from irisflow.viewer.keys import Keymap
from irisflow.viewer.mind import drawn
from irisflow.viewer.scene import Moment, Picture
from irisflow.viewer.sources import ImaginedEnvironment, Name, SavedEpisodes, Source
from irisflow.viewer.trajectory import Trajectory

SPEEDS = (1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0)
HORIZONS = (5, 10, 15, 20, 30, 50, 100, 200, 500, 0)  # 0: no end
VIEWS = ("original", "downscaled", "agent")
NUM_FUTURES = 4
MOST_TICKS_AFTER_END = 30  # the last moment of an episode stays for a second, or for so many ticks


@dataclass
class Shown:
    """What the person wants to see."""

    view: str = "downscaled"
    header: bool = False
    tokens: bool = False
    changes: bool = False


@dataclass
class Offer:
    """Futures of an action among which a person picks."""

    action: int
    futures: list[tuple[Future, Picture]] = field(default_factory=list)


class Session:
    """The state of the viewer. Keys go in by name, `tick` moves it on by one step at most, and whoever draws reads it.

    `person` says who acts at first; `saves` is called with each finished trajectory that the person wants to keep.
    """

    def __init__(
        self,
        sources: Mapping[Name, Source],
        keymap: Keymap,
        *,
        start: Name,
        is_person: bool,
        shown: Shown,
        speed: float,
        horizon: int = 0,
        temperature: float = 1.0,
        seed: int = 0,
        saves: Callable[[Trajectory], str] | None = None,
    ) -> None:
        self.sources, self.keymap, self.shown = sources, keymap, shown
        self.source: Source = sources[start]
        self.is_person, self.speed, self.horizon = is_person, speed, horizon
        self.is_paused, self.is_done, self.wants_recording = False, False, False
        self.wants_futures, self.offer = False, Offer(0)
        self.status, self.question = "", ""
        self.num_steps = 0  # of the whole session
        self._temperature, self._rng = temperature, np.random.default_rng(seed)
        self._saves = saves
        self._held: set[str] = set()
        self._tapped: set[str] = set()
        self._seconds: deque[float] = deque(maxlen=30)  # between steps, without pauses and waits at ends
        self._last_time: float | None = None
        self._single_step, self._wants_noop, self._ticks_after_end = False, False, 0
        self._left: dict[Name, tuple[Moment, Trajectory]] = {}
        self.previous: Moment | None = None
        self.moment = self.source.reset()
        self.trajectory = Trajectory()

    def key_down(self, key: str) -> None:
        """Take a key: a command at once, an action of the game at the next step."""
        if self.question:
            self._answer(key)
        elif self.offer.futures and key in keys.DIGITS[: len(self.offer.futures)]:
            self._pick(int(key) - 1)
        elif command := self._command(key):
            getattr(self, f"_do_{command}")()
        elif key in self.keymap.keys:
            self._held.add(key)
            self._tapped.add(key)

    def key_up(self, key: str) -> None:
        """Take that a key is no longer held."""
        self._held.discard(key)

    def release_all(self) -> None:
        """Forget the keys that are held: the window lost the keyboard."""
        self._held.clear()

    def tick(self) -> bool:
        """Move on by one step if time runs; return whether the moment changed."""
        is_free = not self.is_paused or self._single_step
        if self.is_done or self.question or not is_free or self.offer.futures:
            return False
        self._single_step = False
        if self._is_over():
            return self._linger()
        if self.wants_futures and isinstance(self.source, ImaginedEnvironment):
            return self._make_offer()
        self._go_on(self._action())
        return True

    @property
    def rate(self) -> float:
        """Steps a second of late; 0 before there were two."""
        seconds = sum(self._seconds)
        return len(self._seconds) / seconds if seconds else 0.0

    @property
    def imagined_steps(self) -> int:
        """Steps since the last real frame."""
        return len(self.trajectory) if isinstance(self.source, ImaginedEnvironment) else 0

    @property
    def changed(self) -> Bool[np.ndarray, "rows columns"] | None:
        """Which tokens are not as they were one step before."""
        if self.previous is None:
            return None
        return np.asarray((self.moment.tokens != self.previous.tokens).any(axis=-1))

    def _command(self, key: str) -> str | None:
        if isinstance(self.source, SavedEpisodes) and key in keys.BROWSING_COMMANDS:
            return keys.BROWSING_COMMANDS[key]
        return keys.COMMANDS.get(key)

    def _action(self) -> int:
        if self.is_person:
            action = self.keymap.action(self._held, self._tapped)
            self._tapped.clear()
            return action
        assert self.moment.thought is not None
        return drawn(self.moment.thought, temperature=self._temperature, rng=self._rng)

    def _go_on(self, action: int) -> None:
        self._moved(self.source.step(action), action)

    def _moved(self, moment: Moment, action: int) -> None:
        if not isinstance(self.source, SavedEpisodes):
            self.trajectory.add(self.moment, action, moment)
        self.previous, self.moment = self.moment, moment
        self.num_steps += 1
        now, last = time.monotonic(), self._last_time
        if last is not None:
            self._seconds.append(now - last)
        self._last_time = now
        if self._is_over():
            self._ticks_after_end = min(int(self.speed), MOST_TICKS_AFTER_END)
            self._ask()

    def _is_over(self) -> bool:
        if isinstance(self.source, SavedEpisodes):
            return self.source.is_at_end
        return self.moment.is_over or self._is_at_horizon()

    def _is_at_horizon(self) -> bool:
        return bool(self.horizon) and self.imagined_steps >= self.horizon

    def _linger(self) -> bool:
        """Leave the last moment of an episode on the screen for a while, then start again."""
        if self._ticks_after_end > 0:
            self._ticks_after_end -= 1
            return False
        if isinstance(self.source, SavedEpisodes):
            return False
        self._do_reset()
        return True

    def _make_offer(self) -> bool:
        """Sample futures: of the agent's action, or of the one that the person asks for by a key."""
        is_asked, self._wants_noop = bool(self._tapped & self.keymap.keys) or self._wants_noop, False
        if self.is_person and not is_asked:
            return False
        assert isinstance(self.source, ImaginedEnvironment)
        action = self._action()
        self.offer = Offer(action, self.source.sample(action, NUM_FUTURES))
        return False

    def _pick(self, number: int) -> None:
        assert isinstance(self.source, ImaginedEnvironment)
        offer, self.offer = self.offer, Offer(0)
        self._moved(self.source.choose(offer.action, offer.futures[number][0]), offer.action)

    def _ask(self) -> None:
        if self._saves is not None and len(self.trajectory):
            self.question = f"Save this trajectory of {len(self.trajectory)} steps? Y / N"

    def _answer(self, key: str) -> None:
        if key not in ("y", "n", "enter", "escape"):
            return
        self.question = ""
        if key in ("y", "enter") and self._saves is not None:
            try:
                self.status = self._saves(self.trajectory)
            except DataError as error:
                self.status = str(error)
        else:
            self.status = "the trajectory was not saved"

    def _restarted(self, moment: Moment) -> None:
        self.previous, self.moment, self.trajectory = None, moment, Trajectory()
        self.offer, self._ticks_after_end = Offer(0), 0
        self._last_time = None

    def _enter(self, name: Name, moment: Moment) -> None:
        """Make a source the present one, at a moment; what is left behind can be found again."""
        self._left[self.source.name] = (self.moment, self.trajectory)
        self.source = self.sources[name]
        self._restarted(moment)

    def _do_switch_source(self) -> None:
        here = self.source
        if isinstance(here, ImaginedEnvironment):
            back: Name = "saved episode" if "saved episode" in self._left else "real environment"
            if back not in self.sources:
                return
            moment, trajectory = self._left.get(back) or (self.sources[back].reset(), Trajectory())
            self._enter(back, moment)
            self.trajectory = trajectory
            return
        imagined = self.sources["world model"]
        assert isinstance(imagined, ImaginedEnvironment)
        self._enter("world model", imagined.start_from(here.context()))

    def _do_switch_player(self) -> None:
        self.is_person = not self.is_person
        self._held.clear()
        self._tapped.clear()

    def _do_next_view(self) -> None:
        self.shown.view = VIEWS[(VIEWS.index(self.shown.view) + 1) % len(VIEWS)]

    def _do_reset(self) -> None:
        self._restarted(self.source.reset())

    def _do_pause(self) -> None:
        self.is_paused = not self.is_paused
        self._last_time = None

    def _do_single_step(self) -> None:
        self.is_paused = self._single_step = self._wants_noop = True

    def _do_slower(self) -> None:
        self.speed = max((speed for speed in SPEEDS if speed < self.speed), default=SPEEDS[0])

    def _do_faster(self) -> None:
        self.speed = min((speed for speed in SPEEDS if speed > self.speed), default=SPEEDS[-1])

    def _do_longer_horizon(self) -> None:
        longer = [horizon for horizon in HORIZONS if horizon > self.horizon]
        self.horizon = min(longer, default=0) if self.horizon else 0

    def _do_shorter_horizon(self) -> None:
        shorter = [h for h in HORIZONS if h > 0 and (h < self.horizon or not self.horizon)]
        self.horizon = max(shorter, default=HORIZONS[0])

    def _do_futures(self) -> None:
        self.wants_futures, self.offer = not self.wants_futures, Offer(0)
        if self.wants_futures and not isinstance(self.source, ImaginedEnvironment):
            self.wants_futures, self.status = False, "futures are sampled in the world model: press Tab first"

    def _do_tokens(self) -> None:
        self.shown.tokens = not self.shown.tokens

    def _do_changes(self) -> None:
        self.shown.changes = not self.shown.changes

    def _do_header(self) -> None:
        self.shown.header = not self.shown.header

    def _do_record(self) -> None:
        self.wants_recording = not self.wants_recording

    def _do_quit(self) -> None:
        self.is_done = True

    def _do_back(self) -> None:
        self._seek(-1)

    def _do_forward(self) -> None:
        self._seek(1)

    def _do_previous_episode(self) -> None:
        self._turn(-1)

    def _do_next_episode(self) -> None:
        self._turn(1)

    def _seek(self, offset: int) -> None:
        assert isinstance(self.source, SavedEpisodes)
        self.is_paused, before = True, self.moment
        self._restarted(self.source.seek(self.source.index + offset))
        self.previous = before

    def _turn(self, offset: int) -> None:
        assert isinstance(self.source, SavedEpisodes)
        try:
            self._restarted(self.source.turn_to(self.source.number + offset))
        except DataError as error:
            self.status = str(error)
