"""Whose artefact a folder holds: what its address promises, against what its manifest says."""

import json
from collections.abc import Sequence
from pathlib import Path

from irisflow import compositions, paths
from irisflow.errors import DamageError, DataError
from irisflow.params import Choice
from irisflow.progress import say
from irisflow.storage import Artefact, open_artefact

# Which stage makes an artefact of which kind.
STAGES = {
    "recording": "collect",
    "tokenizer": "pretrain_tokenizer",
    "world_model": "pretrain_world_model",
    "agent": "train_agent",
    "scores": "evaluate",
    "random_play": "play_random",
    "held_out": "hold_out",
    "world_model_quality": "measure_world_model",
}


def open_own(folder: Path, *, kind: str) -> Artefact:
    """Return the artefact in a folder, which must be the one that the folder's address promises.

    A folder that is no address of `irisflow.paths` may hold any artefact of the kind. Raises DataError if there is none,
    and DamageError naming both values if it is that of another scale, game, seed, variant, ...
    """
    artefact = open_artefact(folder, kind=kind)
    check_address(artefact)
    return artefact


def check_address(artefact: Artefact) -> None:
    """Raise DamageError if an artefact lies at the address of another."""
    address = paths.address(artefact.folder)
    promised = {} if address is None else {"kind": address[0], **address[1]}
    said = {"kind": artefact.kind, **artefact.about}
    for key, expected in promised.items():
        if str(said.get(key)) != expected:
            finding = f"{artefact.folder} holds what was made for {key} {said.get(key)}, expected {expected}."
            raise DamageError(finding, artefact.folder, "foreign")


def noted_inputs(artefact: Artefact) -> dict[Path, str]:
    """Return the sha256 that each input had when an artefact was made. Raises DamageError if its record is damaged."""
    inputs = artefact.about.get("inputs", {})
    if (
        "provenance.json" in artefact.sha256 and artefact.kind != "report"
    ):  # whose file of this name is that of its jobs
        inputs = json.loads(artefact.read("provenance.json"))["inputs"]
    return {Path(name): str(sha256) for name, sha256 in inputs.items()}


def noted_changes(artefact: Artefact) -> tuple[Path, str] | None:
    """Return where the uncommitted changes that an artefact was made with were kept, and their sha256; None if nowhere.

    Raises DamageError if its record is damaged.
    """
    if "provenance.json" not in artefact.sha256 or paths.address(artefact.folder) is None:
        return None
    record = json.loads(artefact.read("provenance.json"))
    return (Path(record["diff_file"]), str(record["diff_sha256"])) if record.get("diff_file") else None


def planned_digest(folder: Path, overrides: Sequence[str]) -> str | None:
    """Return the digest that an artefact made now would have, or None where that is not planned for one run."""
    address = paths.address(folder)
    if address is None or address[0] not in STAGES:
        return None
    names = dict(address[1])
    game, seed, scale = names.pop("game"), int(names.pop("seed")), names.pop("scale")
    choice = Choice(scale, overrides=tuple(overrides), **names)
    return compositions.planned_digest(STAGES[address[0]], choice, game, seed)


def check_made_as_planned(artefact: Artefact, overrides: Sequence[str], *, is_planned: bool) -> None:
    """Raise DataError if an artefact was made by another configuration or code than is planned now.

    A stage by hand (`is_planned` is false) goes on and says so.
    """
    planned = planned_digest(artefact.folder, overrides)
    if planned in (None, artefact.digest):
        return
    finding = f"{artefact.folder} was made from another configuration or code (digest {artefact.digest}, now {planned})"
    if is_planned:
        raise DataError(
            f"{finding}. Restore the right one with `dvc checkout`, or make it again:"
            f" `snakemake --forcerun {STAGES[artefact.kind]}`."
        )
    say(f"{finding}; it is used as it is")
