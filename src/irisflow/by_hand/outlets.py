"""Where the numbers of a run by hand go, beside the files in its folder."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from irisflow.by_hand.recorder import Outlet
from irisflow.by_hand.wandb_outlet import NO_LOGIN, WandbOutlet
from irisflow.progress import is_live, say, shown_on


def open_outlets(
    stack: ExitStack, whole: DictConfig, folder: Path, *, mode: str, run_id: str, device: str
) -> list[Outlet]:
    """Return what the configuration asks for: live display, Weights & Biases, TensorBoard. The stack closes them.

    `mode` is what `wandb.mode` comes to here.
    """
    outlets: list[Outlet] = []
    if has_live_display(whole.logging.display):
        from irisflow.by_hand.display import LiveDisplay

        display = LiveDisplay(
            title=f"{run_id}  scale {whole.scale.name}, {device}",
            folder=folder if folder.parts else folder.absolute(),
        )
        stack.enter_context(display)
        stack.enter_context(shown_on(display))
        outlets.append(display)
    if mode == "disabled" and whole.wandb.mode == "auto":
        say(NO_LOGIN)
    if mode != "disabled":
        config = cast(dict[str, Any], OmegaConf.to_container(whole))
        wandb = WandbOutlet(whole.wandb, mode, folder=folder, config=config)
        stack.push(lambda kind, *_: wandb.close(exit_code=int(kind is not None)))
        outlets.append(wandb)
    if whole.logging.tensorboard:
        from irisflow.by_hand.tensorboard_outlet import TensorBoardOutlet

        board = TensorBoardOutlet(folder)
        stack.callback(board.close)
        outlets.append(board)
    return outlets


def has_live_display(mode: str) -> bool:
    """Return whether progress is shown live: as the configuration says, or on a terminal that can and is large enough."""
    if mode == "auto":
        from irisflow.by_hand.display import fits

        return is_live(sys.stderr) and fits(sys.stderr)
    return mode == "live"
