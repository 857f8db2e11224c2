"""IRIS's checkpoints to run folders and back."""

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load, save
from torch import Tensor

from irisflow import games, params
from irisflow.behaviour.agent import Agent, build_agent
from irisflow.by_hand.folder import RunFolder
from irisflow.checkout import git_state
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DataError, ResourceError
from irisflow.initialization.exchange import check_is_iris, import_agent, iris_tensors
from irisflow.initialization.initialize import Origin
from irisflow.initialization.weights import load_weights
from irisflow.progress import say
from irisflow.stages.session import weights_of
from irisflow.storage import json_bytes, open_artefact, publish, sha256_of, write_atomically

BESIDE = "beside.safetensors"
RELEASED = "eloialonso/iris"  # on the Hugging Face hub, named in the README of IRIS's repository
RELEASED_FILE = "pretrained_models/{game}.pt"


def import_checkpoint(path: Path, *, game: str, overrides: list[str], folder: Path) -> None:
    """Make a run folder with the agent of an IRIS checkpoint: it evaluates, plays, and starts training from there.

    Raises DataError, before anything is written, unless every tensor is there and fits.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file. Allowed: a checkpoint that IRIS wrote, such as last.pt.")
    whole = params.settings_from([f"env.train.id={game}", *overrides])
    check_is_iris(cast(dict[str, Any], OmegaConf.to_container(whole)))
    agent = _fresh(whole)
    beside = import_agent(agent, path, game=games.game_of(game))
    place, sha256 = RunFolder(folder), sha256_of(path)
    imported = folder / "checkpoints" / "imported"
    whole.initialization.path_to_checkpoint = imported.relative_to(folder).as_posix()
    place.make(whole)
    origin = {"sha256": {str(path.absolute()): sha256}, "git": git_state()}
    place.write_origin(Origin(origin["sha256"], 0).record())
    files = {
        "agent.safetensors": weights_of(agent),
        "params.yaml": params.to_yaml(params.stage_settings("train_agent", whole)).encode(),
        "provenance.json": json_bytes({"stage": "import_checkpoint", **origin}),
    }
    identity = {
        "scale": str(whole.scale.name), "variant": str(whole.variant.name), "game": games.game_of(game),
        "seed": int(whole.common.seed), "env_steps": 0, "pretraining_env_steps": 0, "imported_sha256": sha256,
    }  # fmt: skip
    digest = params.digest("train_agent", whole, games.game_of(game), whole.common.seed)
    for target, more in ((imported, {BESIDE: save(beside)}), (place.last, {})):
        publish(target, {**files, **more}, kind="agent", digest=digest, about=identity)
    num = len(iris_tensors(agent))
    say(f"{folder}: {num} tensors of {path}; {len(beside)} more that decide nothing are kept for exporting")


def export_checkpoint(run: Path, *, agent_name: str, output: Path) -> None:
    """Write the agent of a run folder, or of an agent's folder, as IRIS saves it: a state dict by IRIS's names.

    What an imported checkpoint held beside the weights is written back. Raises DataError for an agent that is not IRIS's.
    """
    place = RunFolder(run)
    is_run = place.trainer.is_file()
    weights = run / "checkpoints" / agent_name if is_run else run
    open_artefact(weights, kind="agent")
    whole = OmegaConf.load(place.trainer if is_run else weights / "params.yaml")
    assert isinstance(whole, DictConfig)
    check_is_iris(cast(dict[str, Any], OmegaConf.to_container(whole)))
    agent = _fresh(whole)
    load_weights(agent, weights, kind="agent")
    beside = _beside(run)
    tensors = OrderedDict(
        (name, tensor.detach().cpu().contiguous().clone())
        for name, tensor in {**iris_tensors(agent), **beside}.items()
    )
    file = io.BytesIO()
    torch.save(tensors, file)
    write_atomically(output, file.getvalue())
    lacking = (
        ""
        if beside
        else "; without LPIPS, masks and index buffers, which IRIS saves too: load it with strict=False"
    )
    say(f"{output}: {len(tensors)} tensors of {weights}{lacking}")


def released(game: str) -> Path:
    """Return the file of the agent that IRIS's authors released for a game, fetched into the hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = RELEASED_FILE.format(game=games.game_of(game))
    try:
        return Path(hf_hub_download(RELEASED, name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ResourceError(
            f"{RELEASED}/{name} cannot be fetched ({type(error).__name__}): there is no network, or no such file. Fetch it"
            f" elsewhere (`hf download {RELEASED} {name}`), then name the file."
        ) from None


def check_free(folder: Path) -> None:
    """Raise ConfigError if there is something in a folder that is to become a run's."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--folder {folder}: it is not empty. Name a new one.")


def _fresh(whole: DictConfig) -> Agent:
    environment = make_environment(whole.env.train)
    try:
        return build_agent(
            whole, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
        )
    finally:
        environment.close()


def _beside(run: Path) -> dict[str, Tensor]:
    imported = run / "checkpoints" / "imported"
    if not (imported / "manifest.json").is_file():
        return {}
    return load(open_artefact(imported, kind="agent").read(BESIDE))
