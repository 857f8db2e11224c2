"""Families of interchangeable parts. The folder is the registry: `quantizers/fsq.py` is the quantizer `fsq`.

A variant module defines a dataclass `Config` and `build(config, **context)`, and may bound fields from below: `LEAST`.
Both can be read without importing the module (and with it torch), so that a misspelt key stops a workflow before
anything runs.
"""

import ast
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import field, make_dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irisflow.errors import ConfigError, nearest

FAMILIES = {
    "quantizer": "irisflow.tokenizer.quantizers",
    "reconstruction": "irisflow.tokenizer.reconstruction",
    "backbone": "irisflow.world_model.backbones",
    "prediction": "irisflow.world_model.prediction",
    "reward": "irisflow.world_model.rewards",
    "actor_critic": "irisflow.behaviour.actor_critics",
}
FIELD_TYPES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "list[int]": list[int]}


def folder(family: str) -> Path:
    """Return the folder whose modules are the variants of a family."""
    return Path(__file__).parents[1].joinpath(*FAMILIES[family].split("."))


def available(family: str) -> list[str]:
    """Return the names of a family's variants, sorted."""
    return sorted(
        path.stem for path in folder(family).glob("*.py") if not path.stem.startswith(("_", "base"))
    )


def module_path(family: str, name: str) -> Path:
    """Return the file of one variant. Raises ConfigError if there is none."""
    names = available(family)
    if name not in names:
        raise ConfigError(
            f"{family} {name!r} does not exist{nearest(name, names)}. There are: {', '.join(names)}."
            f" To add it, create {folder(family).relative_to(Path(__file__).parents[2])}/<name>.py."
        )
    return folder(family) / f"{name}.py"


def build(family: str, settings: Mapping[str, Any], **context: Any) -> Any:
    """Return the variant that `settings["name"]` names, built from the other settings and the context.

    Raises ConfigError for an unknown name, key or type.
    """
    module = import_module(f"{FAMILIES[family]}.{settings['name']}")
    return module.build(module.Config(**checked(family, settings)), **context)


def checked(family: str, settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the settings (without the name) with defaults filled in and types converted.

    Raises ConfigError naming `where` (a dotted key), the key and the allowed ones. The module is not imported.
    """
    name = str(settings["name"])
    schema = OmegaConf.structured(_fields(family, name))
    given = {key: value for key, value in settings.items() if key != "name"}
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(schema, given), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "?"
        allowed = ", ".join(str(key) for key in schema) or "none"
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{where or family}.{key}: {reason} ({family} {name!r}). Allowed keys: {allowed}."
        ) from None
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


@cache
def least(family: str, name: str) -> dict[str, float]:
    """Return the least values that a variant's module allows, by field, read from its source."""
    for node in ast.parse(module_path(family, name).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEAST":
            return dict(ast.literal_eval(node.value))
    return {}


@cache
def _fields(family: str, name: str) -> type:
    """Return a dataclass with the fields of a variant's `Config`, read from its source."""
    path = module_path(family, name)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    found: list[Any] = []
    for statement in config.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            kind = FIELD_TYPES[ast.unparse(statement.annotation)]
            default = "???" if statement.value is None else ast.literal_eval(statement.value)
            found.append((statement.target.id, kind, field(default_factory=partial(deepcopy, default))))
    return make_dataclass("Config", found)
