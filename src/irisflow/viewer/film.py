"""`--record FILE.mp4`: the same pictures as in the window, on a machine without a screen."""

from collections.abc import Iterator
from pathlib import Path

from irisflow import interruption
from irisflow.errors import ConfigError
from irisflow.viewer.recording import Film
from irisflow.viewer.show import Show

DEFAULT_STEPS = 300


def check_path(path: Path) -> None:
    """Raise ConfigError for a file that could not be an mp4 film."""
    if path.suffix != ".mp4":
        raise ConfigError(f"--record {path}: the film's name must end in .mp4.")
    if path.is_dir():
        raise ConfigError(f"--record {path} is a folder. Give the name of a file that ends in .mp4.")


def film(show: Show, path: Path, *, num_steps: int) -> int:
    """Write a film of so many steps, the first frame before them; return its number of pictures.

    It ends earlier with the last step of a saved episode. A film that is stopped halfway is not written.
    """
    writer = Film(path, fps=show.session.speed)
    try:
        for _ in _moments(show, num_steps):
            interruption.check()
            writer.add(show.picture())
    except BaseException:
        writer.discard()
        raise
    writer.close()
    return writer.num_pictures


def _moments(show: Show, num_steps: int) -> Iterator[None]:
    """Yield at each moment; what lingers after an end is in the film as long as on the screen."""
    yield
    idle = 0
    while show.session.num_steps < num_steps and idle <= 2 * show.session.speed:
        idle = 0 if show.advance() else idle + 1
        yield
