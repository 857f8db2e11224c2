"""The arguments of `irisflow play`. Imports nothing heavy."""

import argparse
from pathlib import Path

PURPOSE = "watch an agent, or play yourself, in the real environment and in the world model"
VIEWS = ("original", "downscaled", "agent")
DEFAULT_PORT = 8765


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare what `irisflow play` takes. `-h` is the header, as in IRIS: help is `--help`."""
    command.add_argument("--help", action="help", help="show this and exit")
    command.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="an agent (results/SCALE/agents/VARIANT/GAME/seed-N) or a run folder (outputs/DATE/TIME)",
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument("-w", "--world-model", action="store_true", help="you play in the world model")
    what.add_argument("-a", "--agent", action="store_true", help="the agent plays in the world model")
    what.add_argument("-e", "--episodes", action="store_true", help="browse saved episodes")
    command.add_argument(
        "-r",
        "--render",
        choices=VIEWS,
        default="downscaled",
        help="real frames as the emulator draws them, as they are reduced, or as the agent sees them",
    )
    command.add_argument(
        "-h", "--header", action="store_true", help="show what the agent thinks of each step"
    )
    command.add_argument("-f", "--fps", type=float, default=15.0, help="steps a second, 1 to 240; default 15")
    command.add_argument(
        "-s", "--save", action="store_true", help="ask after each episode whether to save the trajectory"
    )
    command.add_argument(
        "--horizon", type=int, default=0, help="imagined steps before real frames; 0: no end"
    )
    command.add_argument("--checkpoint", choices=("last", "best"), default="last", help="of a run folder")
    command.add_argument("--keys", action="store_true", help="print the keys of the game and end")
    command.add_argument("--game", default=None, help="play this game instead of the agent's own")
    command.add_argument("--episode-file", type=Path, metavar="FILE", help="browse this file of episodes")
    command.add_argument("--temperature", type=float, default=1.0, help="of the agent's actions; IRIS: 1")
    command.add_argument("--seed", type=int, default=0, help="of the games, the actions and the world model")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    command.add_argument(
        "--threads", type=int, default=None, help="of torch on the CPU; default: the run's own"
    )
    command.add_argument(
        "--media",
        type=Path,
        metavar="FOLDER",
        help="where recordings/ goes; default: media/ of the run folder",
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--record", type=Path, metavar="FILE.mp4", help="no window: write a film and end")
    how.add_argument("--web", action="store_true", help="no window: a page on this machine only")
    command.add_argument("--steps", type=int, default=None, help="end after so many; --record: default 300")
    command.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"of --web; default {DEFAULT_PORT}")
