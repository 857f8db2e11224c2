"""The window: pygame shows the picture, large and sharp, and hands the keys on."""

import os
import time

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import pygame

from irisflow import interruption
from irisflow.errors import ResourceError
from irisflow.viewer.screen import HEIGHT, WIDTH
from irisflow.viewer.show import Show

NAMES = {
    pygame.K_UP: "up", pygame.K_DOWN: "down", pygame.K_LEFT: "left", pygame.K_RIGHT: "right",
    pygame.K_SPACE: "space", pygame.K_TAB: "tab", pygame.K_RETURN: "enter", pygame.K_KP_ENTER: "enter",
    pygame.K_ESCAPE: "escape", pygame.K_PAGEUP: "pageup", pygame.K_PAGEDOWN: "pagedown",
}  # fmt: skip
SECONDS_BETWEEN_LOOKS = 1 / 60  # at the keyboard, while nothing moves
DRIVERS_WITHOUT_SCREEN = ("dummy", "offscreen")


class Window:
    """A window of the picture's size, larger by whole factors where it is resized so."""

    def __init__(self, title: str) -> None:
        try:
            pygame.display.init()
            is_chosen = os.environ.get("SDL_VIDEODRIVER") in DRIVERS_WITHOUT_SCREEN
            if pygame.display.get_driver() in DRIVERS_WITHOUT_SCREEN and not is_chosen:
                raise pygame.error("no screen")
            self._surface = pygame.display.set_mode((WIDTH, HEIGHT), pygame.RESIZABLE)
        except pygame.error as error:
            pygame.display.quit()
            raise ResourceError(
                f"no display to open a window on ({error}). Type --record FILE.mp4 for a film or --web for a page."
            ) from None
        pygame.display.set_caption(title)

    def run(self, show: Show, *, num_steps: int | None = None) -> None:
        """Play until the person quits, or for so many steps. The session's speed is the most that is tried."""
        session, due = show.session, time.monotonic()
        self._draw(show)
        while not session.is_done and (num_steps is None or session.num_steps < num_steps):
            interruption.check()
            has_input = self._take_events(show)
            is_due = time.monotonic() >= due
            if is_due:
                due = max(due + 1 / session.speed, time.monotonic() - 1 / session.speed)
                show.advance()
            if is_due or has_input:
                self._draw(show)
            wait = min(due - time.monotonic(), SECONDS_BETWEEN_LOOKS)
            time.sleep(max(0.0, wait))

    def close(self) -> None:
        """Close the window."""
        pygame.display.quit()

    def _draw(self, show: Show) -> None:
        drawn = show.picture()
        # Row by row, as it lies there: turning it for pygame's surfarray would take as long as drawing it.
        picture = pygame.image.frombuffer(drawn.data, (WIDTH, HEIGHT), "RGB")
        width, height = self._surface.get_size()
        factor = min(width / WIDTH, height / HEIGHT)
        factor = float(int(factor)) if factor >= 1 else factor
        size = (max(1, round(WIDTH * factor)), max(1, round(HEIGHT * factor)))
        scale = pygame.transform.scale if factor >= 1 else pygame.transform.smoothscale
        self._surface.fill((18, 20, 24))
        place = ((width - size[0]) // 2, (height - size[1]) // 2)
        self._surface.blit(picture if size == (WIDTH, HEIGHT) else scale(picture, size), place)
        pygame.display.flip()

    def _take_events(self, show: Show) -> bool:
        """Hand all events to the session; return whether there were any that change the picture."""
        session, events = show.session, pygame.event.get()
        for event in events:
            if event.type == pygame.QUIT:
                session.is_done = True
            elif event.type == pygame.KEYDOWN and (name := name_of(event)):
                session.key_down(name)
            elif event.type == pygame.KEYUP and (name := name_of(event)):
                session.key_up(name)
            elif event.type == pygame.WINDOWFOCUSLOST:
                session.release_all()
        seen = (pygame.KEYDOWN, pygame.VIDEORESIZE, pygame.WINDOWEXPOSED)
        return any(event.type in seen for event in events)


def name_of(event: pygame.event.Event) -> str | None:
    """Return the name that `keys` has for an event's key: by the character where it has one, on any keyboard layout."""
    if event.key in NAMES:
        return NAMES[event.key]
    return chr(event.key).lower() if 32 < event.key < 127 else None
