"""A study: a matrix of games, variants and seeds at one scale. One file in `params/study/` each."""

from dataclasses import dataclass, field
from typing import Any, cast, get_origin

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from irisflow import compositions, games, params
from irisflow.errors import ConfigError, nearest
from irisflow.params import PARAMS, Choice


@dataclass
class Statistics:
    """How the aggregates are computed."""

    bootstrap_reps: int = 2000


@dataclass
class Study:
    """What a study file says; every name in it exists."""

    name: str = MISSING
    title: str = MISSING
    scale: str = MISSING
    games: list[str] = MISSING
    variants: list[str] = MISSING
    baseline: str = MISSING
    seeds: list[int] = MISSING
    random_play: int = 0  # seeds of random play per game, to compare with; none by default
    statistics: Statistics = field(default_factory=Statistics)
    overrides: list[str] = field(default_factory=list)

    def choice(self, variant: str) -> Choice:
        """Return what a variant's configuration is composed of."""
        return Choice(self.scale, variant=variant, overrides=tuple(self.overrides))


def load_study(name: str, **changes: Any) -> Study:
    """Return the study `params/study/<name>.yaml`; `changes` (such as a scale) replace its keys if not None.

    Raises ConfigError naming file and key for an unknown name or key, an ill-typed value, an empty or repeated list, or
    a variant that cannot be composed with the overrides.
    """
    params.check_choice("study", games.check_name("study", name))
    path = PARAMS / "study" / f"{name}.yaml"
    where = f"params/study/{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        given = {"name": name, **(content or {}), **{k: v for k, v in changes.items() if v is not None}}
        merged = OmegaConf.merge(OmegaConf.structured(Study), given)
        study = cast(Study, OmegaConf.to_object(merged))
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {error.full_key}: {_reason(error)}") from None
    _check(study, where)
    return study


def _reason(error: OmegaConfBaseException) -> str:
    """Return what is wrong, and what is allowed there."""
    found = f"{str(error).splitlines()[0].rstrip('.')}."
    if isinstance(error, ConfigKeyError):
        return f"{found} Allowed keys: {', '.join(Study.__dataclass_fields__)}."
    if get_origin(Study.__annotations__.get(str(error.full_key))) is list:
        return "it must be a list, such as [a, b]."
    return found


def _check(study: Study, where: str) -> None:
    for key in ("games", "variants", "seeds"):
        values = getattr(study, key)
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{where}: {key} is {values}; it must name at least one, each once.")
    params.check_choice("scale", study.scale)
    for variant in study.variants:
        params.check_choice("variant", variant)
    for game in study.games:
        games.check_game_name(game)
        if games.game_of(game) != game:
            raise ConfigError(f"{where}: games: write {games.game_of(game)!r} instead of {game!r}.")
    if study.baseline not in study.variants:
        raise ConfigError(
            f"{where}: baseline {study.baseline!r} is none of the study's variants{nearest(study.baseline, study.variants)}."
        )
    if study.random_play < 0:
        raise ConfigError(f"{where}: random_play is {study.random_play}; allowed: 0 or more seeds.")
    if min(study.seeds) < 0 or study.statistics.bootstrap_reps < 1:
        raise ConfigError(f"{where}: seeds must be 0 or more and statistics.bootstrap_reps 1 or more.")
    own = Choice(study.scale, overrides=tuple(study.overrides))
    compositions.keep_all([own, *map(study.choice, study.variants)])
    for variant in study.variants:
        try:
            compositions.values(study.choice(variant))
        except ConfigError as error:
            overrides = f" with overrides {study.overrides}" if study.overrides else ""
            raise ConfigError(f"{where}: variant {variant}{overrides}: {error}") from None
