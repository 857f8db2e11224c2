"""`irisflow play`: opens a run and shows it in a window, a film or a page."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from irisflow import games
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, ResourceError
from irisflow.progress import say
from irisflow.viewer.film import DEFAULT_STEPS, check_path, film
from irisflow.viewer.keys import Keymap
from irisflow.viewer.runs import Run, open_run
from irisflow.viewer.session import Session, Shown
from irisflow.viewer.show import Show
from irisflow.viewer.sources import Name, Source

FPS = (1.0, 240.0)


def run(options: argparse.Namespace) -> None:
    """Play as the command line says. Raises before anything is opened or written if it makes no sense."""
    _check(options)
    opened = open_run(options.run, checkpoint=options.checkpoint, media=options.media)
    if options.keys:
        print(_keys(opened, options.game))
        return
    if options.record is None and not options.web:
        _check_display()
    show = _show(options, opened)
    try:
        _play(options, show, opened)
    finally:
        told = show.close()
    session = show.session
    rate = f", {session.rate:.1f} a second of late ({session.speed:g} were asked for)" if session.rate else ""
    say(f"{opened.title}: {session.num_steps} steps{rate}{'; ' if told else ''}{told}")


def _check(options: argparse.Namespace) -> None:
    if not FPS[0] <= options.fps <= FPS[1]:
        raise ConfigError(f"--fps is {options.fps:g}; allowed: {FPS[0]:g} to {FPS[1]:g}.")
    if options.horizon < 0:
        raise ConfigError(f"--horizon is {options.horizon}; allowed: 0, no end, or more.")
    if options.temperature <= 0:
        raise ConfigError(f"--temperature is {options.temperature:g}; allowed: more than 0.")
    if options.steps is not None and options.steps < 1:
        raise ConfigError(f"--steps is {options.steps}; allowed: 1 or more.")
    if options.seed < 0:
        raise ConfigError(f"--seed is {options.seed}; allowed: 0 or more.")
    if options.threads is not None and not 1 <= options.threads <= 1024:
        raise ConfigError(f"--threads is {options.threads}; allowed: 1 to 1024.")
    if options.web and not 0 <= options.port < 65536:
        raise ConfigError(f"--port is {options.port}; allowed: 0, any free one, to 65535.")
    if options.record is not None:
        check_path(options.record)
        if options.world_model:
            raise ConfigError(
                "--record: nobody is at the keyboard of a film. Use -a, and the agent plays; or --web."
            )
        if options.save:
            raise ConfigError("--record: nobody can answer what -s asks. Leave -s out.")


def _keys(opened: Run, game: str | None) -> str:
    """Return the keys of a run's game, or of another one."""
    env = opened.settings.env.test
    env.id = game or env.id
    environment = make_environment(env)
    environment.close()
    keymap = Keymap.of(environment.num_actions, environment.full_action_ids)
    return keymap.text(games.game_of(env.id))


def _check_display() -> None:
    """Raise ResourceError where no window can open. SDL itself finds out late, and complains in lines of its own."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, variables)):
        raise ResourceError(
            "no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set). Type --record FILE.mp4 for a"
            " film or --web for a page."
        )


def _show(options: argparse.Namespace, opened: Run) -> Show:
    # Only now: torch takes seconds, and a wrong option or folder should not have to wait for it.
    from irisflow.training.device import choose_device
    from irisflow.viewer.loading import Loaded
    from irisflow.viewer.recording import save_trajectory

    threads = options.threads or opened.settings.common.num_threads
    device = choose_device(options.device, num_threads=threads)
    loaded = Loaded(opened, game=options.game, device=device, seed=options.seed)
    sources: dict[Name, Source] = {"real environment": loaded.real(), "world model": loaded.imagined()}
    start: Name = "world model" if options.world_model or options.agent else "real environment"
    if options.episodes or options.episode_file is not None:
        sources["saved episode"], start = loaded.saved(options.episode_file), "saved episode"
    recordings = opened.media / "recordings"
    about = {"game": loaded.game, "made_by": "irisflow play"}
    saves = partial(save_trajectory, folder=recordings, fps=options.fps, about=about)
    session = Session(
        sources,
        Keymap.of(loaded.environment.num_actions, loaded.environment.full_action_ids),
        start=start,
        is_person=options.world_model,
        shown=Shown(view=options.render, header=options.header),
        speed=options.fps,
        horizon=options.horizon,
        temperature=options.temperature,
        seed=options.seed,
        saves=saves if options.save else None,
    )
    return Show(session, title=opened.title, recordings=recordings)


def _play(options: argparse.Namespace, show: Show, opened: Run) -> None:
    if options.record is not None:
        _record(show, options.record, options.steps or DEFAULT_STEPS)
        return
    if options.web:
        from irisflow.viewer.web import serve

        serve(show, port=options.port, num_steps=options.steps)
        return
    from irisflow.viewer.window import Window

    window = Window(f"irisflow: {opened.title}")
    try:
        window.run(show, num_steps=options.steps)
    finally:
        window.close()


def _record(show: Show, path: Path, num_steps: int) -> None:
    num_pictures = film(show, path, num_steps=num_steps)
    say(f"{path}: {num_pictures} pictures at {show.session.speed:g} a second")
