"""How many steps a second `irisflow play` shows, and what a step costs: without a picture, drawn, and in a window.

    python benchmarks/play_rate.py                     # agent in the world model of Breakout, scale quick, header on
    python benchmarks/play_rate.py --run outputs/DATE/TIME --threads 2
    python benchmarks/play_rate.py --real              # in the real environment

Without --run an agent is made whose weights are random (they decide nothing about time), but that never predicts an end. The
window is a real one: on $DISPLAY, or on an Xvfb of its own where that is not set. The most is asked for, 240 steps a second.
It needs the machine for itself. Each way is measured in turns; rates are of all turns of a way together. The processor time
of the X server is not in the last column.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from irisflow import cli, params, provenance
from irisflow.behaviour.agent import build_agent
from irisflow.envs.make import make_environment
from irisflow.errors import ResourceError
from irisflow.storage import publish
from irisflow.viewer import play
from irisflow.viewer.runs import open_run
from irisflow.viewer.show import Show

NUM_TURNS = 4
NEVER = 40.0  # how far apart the logits of "goes on" and "ends" are


@dataclass
class Way:
    """One way of showing steps: what takes so many steps, and what they took."""

    name: str
    take: Callable[[int], object]
    num_steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def measure(self, num_steps: int) -> None:
        """Take so many steps."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.take(num_steps)
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        self.num_steps += num_steps

    def row(self) -> str:
        """Return the line of the table."""
        rate, per_step = self.num_steps / self.seconds, 1000 / self.num_steps
        return f"| {self.name} | {rate:.1f} | {self.seconds * per_step:.1f} | {self.cpu_seconds * per_step:.1f} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--run", type=Path, default=None, help="an agent or a run folder; default: random weights"
    )
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--game", default="Breakout")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="of the random agent"
    )
    parser.add_argument("--real", action="store_true", help="in the real environment, not in the world model")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--steps", type=int, default=200, help="of each way")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.run or stack.enter_context(random_agent(options))
        stack.enter_context(a_display())
        ways = ways_to_show(lambda: opened(folder, options), stack)
        for way in ways:
            way.measure(max(1, options.steps // 10))
            way.num_steps, way.seconds, way.cpu_seconds = 0, 0.0, 0.0
        for _ in range(NUM_TURNS):
            for way in ways:
                way.measure(max(1, options.steps // NUM_TURNS))
    where = provenance.hardware()
    lines = [f"{where['processor']}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"]
    lines += [
        "| a step | steps/s | ms | ms of processor time |",
        "|---|---|---|---|",
        *(way.row() for way in ways),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def ways_to_show(show: Callable[[], Show], stack: ExitStack) -> list[Way]:
    """Return the ways, each with a session of its own."""
    from irisflow.viewer.window import Window  # only now: SDL looks for its display

    alone, drawn, shown = show(), show(), show()
    window = Window("play_rate")
    stack.callback(window.close)

    def draw() -> None:
        drawn.advance()
        drawn.picture()

    return [
        Way("the agent and its world", lambda count: repeat(alone.advance, count)),
        Way("and drawn", lambda count: repeat(draw, count)),
        Way("and in a window", lambda count: window.run(shown, num_steps=shown.session.num_steps + count)),
    ]


def repeat(step: Callable[[], object], count: int) -> None:
    """Call a function so often."""
    for _ in range(count):
        step()


def opened(folder: Path, options: argparse.Namespace) -> Show:
    """Return what `irisflow play FOLDER` shows."""
    words = ["play", str(folder), "-h", "-f", "240", *([] if options.real else ["-a"])]
    words += [] if options.threads is None else ["--threads", str(options.threads)]
    read = cli._parser().parse_args(words)
    return play._show(read, open_run(folder))


@contextmanager
def random_agent(options: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder of an agent with random weights."""
    words = [f"scale={options.scale}", f"env.train.id={options.game}", *options.override]
    whole = params.settings_from(words)
    environment = make_environment(whole.env.test)
    torch.manual_seed(0)
    ids = environment.full_action_ids
    agent = build_agent(whole, num_actions=environment.num_actions, full_action_ids=ids)
    environment.close()
    with torch.no_grad():
        agent.world_model.end_head[-1].bias.copy_(torch.tensor([NEVER, -NEVER]))
    weights = {name: value.contiguous() for name, value in agent.state_dict().items()}
    settings = params.stage_settings("train_agent", whole)
    files = {"agent.safetensors": save(weights), "params.yaml": params.to_yaml(settings).encode()}
    about = {"scale": options.scale, "variant": "random weights", "game": options.game, "seed": 0}
    with tempfile.TemporaryDirectory() as place:
        publish(Path(place) / "agent", files, kind="agent", digest="0" * 16, about=about)
        yield Path(place) / "agent"


@contextmanager
def a_display() -> Iterator[None]:
    """Let a window open: on the display that there is, or on an X server without a screen."""
    if os.environ.get("DISPLAY") or os.environ.get("SDL_VIDEODRIVER"):
        yield
        return
    server = shutil.which("Xvfb")
    if server is None:
        raise ResourceError("no display and no Xvfb to open a window on. Install xvfb.")
    read, write = os.pipe()
    command = [server, "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            os.environ["DISPLAY"] = f":{answer.readline().strip()}"
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(cli.guarded(main))
