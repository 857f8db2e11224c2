"""Composes, checks and slices a run's configuration, and gives each stage the digest of what it reads.

`params/` is Hydra's config directory. Hydra composes; it never instantiates. A stage gets a configuration in which only
the keys of its slice are filled in: reading another one raises, so the digest cannot miss a key.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irisflow import games, schema, source, variants
from irisflow.errors import ConfigError, nearest

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params"

# Stage -> the dotted keys that it reads. `~key` takes a key out again.
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "collect": ("common.seed", "env.train", "recording"),
    "pretrain_tokenizer": (
        "common.seed", "common.num_threads", "common.precision", "common.device", "tokenizer", "corpus",
        "pretraining.tokenizer",
        "training.sample_by", "training.tokenizer", "~training.tokenizer.start_after_epochs",
        "~training.tokenizer.stop_after_epochs", "~training.tokenizer.steps_per_epoch", "~training.tokenizer.trained",
    ),
    "pretrain_world_model": (
        "common.seed", "common.num_threads", "common.precision", "common.device", "common.sequence_length", "env.train",
        "tokenizer", "world_model", "corpus", "pretraining.world_model",
        "training.sample_by", "training.time_limit_is_end", "training.world_model",
        "~training.world_model.start_after_epochs", "~training.world_model.stop_after_epochs",
        "~training.world_model.steps_per_epoch", "~training.world_model.trained",
    ),
    "train_agent": (
        "common", "~common.resume", "collection", "training", "evaluation", "~evaluation.final",
        "~evaluation.world_model_quality", "env", "tokenizer",
        "world_model", "actor_critic", "initialization", "datasets", "corpus", "wandb", "variant",
    ),
    "evaluate": (
        "common.seed", "common.num_threads", "common.device", "common.parallel_envs", "env.test", "env.train.frame_skip",
        "evaluation.final", "tokenizer", "world_model", "actor_critic", "variant",
    ),
    "play_random": ("common.seed", "env.test", "evaluation.final.num_episodes"),
    "hold_out": (
        "common.seed", "common.num_threads", "common.device", "env.train", "evaluation.world_model_quality.held_out",
        "tokenizer", "world_model", "actor_critic", "variant",
    ),
    "measure_world_model": (
        "common.seed", "common.num_threads", "common.device", "env.train", "evaluation.world_model_quality",
        "~evaluation.world_model_quality.held_out", "~evaluation.world_model_quality.should",
        "training.time_limit_is_end", "training.actor_critic.imagine_horizon", "training.actor_critic.burn_in",
        "training.actor_critic.gamma", "tokenizer", "world_model", "actor_critic", "variant",
    ),
}  # fmt: skip
# Keys that a stage may read but that do not decide its numbers.
NOT_IN_DIGEST = (
    "common.device", "common.do_checkpoint", "common.parallel_envs", "wandb", "variant.question",
)  # fmt: skip
# `reconstruction=l1` means the group at its place in the tree.
GROUP_PLACES = {
    "quantizer": "tokenizer.quantizer",
    "reconstruction": "tokenizer.reconstruction",
    "control": "training.control",
    "policy_loss": "training.actor_critic",
    "backbone": "world_model.backbone",
    "prediction": "world_model.prediction",
    "reward": "world_model.reward",
}

_ABSENT = object()

OmegaConf.register_new_resolver(
    "irisflow.product", lambda *factors: math.prod(int(factor) for factor in factors), replace=True
)
OmegaConf.register_new_resolver(
    "irisflow.quotient", lambda dividend, divisor: dividend // divisor, replace=True
)
OmegaConf.register_new_resolver("irisflow.without_last", lambda members: list(members)[:-1], replace=True)
OmegaConf.register_new_resolver(
    "irisflow.tokens_per_block",
    lambda resolution, ch_mult, per_position: _tokens_per_frame(resolution, ch_mult, per_position) + 1,
    replace=True,
)


@dataclass(frozen=True)
class Choice:
    """Which files of `params/` a configuration is composed of, and what is changed on top."""

    scale: str
    variant: str | None = None
    tokenizer: str | None = None
    world_model: str | None = None
    corpus: str | None = None
    overrides: tuple[str, ...] = ()

    def hydra_overrides(self) -> list[str]:
        """Return the choice in Hydra's override grammar."""
        groups = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "overrides"}
        return [f"{group}={name}" for group, name in groups.items() if name] + list(self.overrides)


def check_actions(actions: str, *, corpus: str) -> None:
    """Raise ConfigError if a world model for one game's actions is to be pretrained on those of many."""
    if actions != "all" and corpus != "own":
        raise ConfigError(
            f"world_model.actions is {actions}, but the corpus {corpus} holds games whose actions differ. Allowed for a"
            " pretrained world model: corpus=own, or world_model.actions=all (world_model=iris_all_actions)."
        )


def names(group: str) -> list[str]:
    """Return the names that `params/<group>/` offers, sorted."""
    return sorted(path.stem for path in (PARAMS / group).glob("*.yaml"))


def check_choice(group: str, name: str) -> str:
    """Return `name` if `params/<group>/<name>.yaml` exists, else raise ConfigError with the nearest names."""
    if name not in names(group):
        raise ConfigError(
            f"{group} {name!r} does not exist{nearest(name, names(group))}. There are: {', '.join(names(group))}."
            f" To add it, create params/{group}/<name>.yaml."
        )
    return name


@cache
def compose(choice: Choice) -> DictConfig:
    """Return the resolved, checked configuration (a `schema.Settings`).

    Raises ConfigError naming the key, the value, and what is allowed. What a run starts from is looked at where a variant
    is chosen: pretraining and other stages without one do not read it.
    """
    settings = checked(_compose(choice.hydra_overrides()))
    _check_chosen(choice, settings)
    if choice.variant is not None:
        _check_start(settings)
    return settings


def settings_from(overrides: list[str]) -> DictConfig:
    """Return the configuration of a command line such as `env.train.id=Pong scale=smoke`, checked."""
    settings = checked(_compose(overrides))
    _check_start(settings)
    return settings


def settings_from_file(path: Path, overrides: list[str]) -> DictConfig:
    """Return the configuration that a run wrote down, with a command line's keys changed on top, checked.

    A word that chooses a file of `params/` must name the one that the run was started with. Raises ConfigError.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        whole = OmegaConf.load(path)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}.") from None
    if not isinstance(whole, DictConfig):
        raise ConfigError(f"{path} is no configuration: it holds {type(whole).__name__}.")
    _check_groups(overrides)
    for override in overrides:
        parsed = OverridesParser.create().parse_override(override)
        if (PARAMS / parsed.key_or_group).is_dir():
            _check_same_group(whole, parsed.key_or_group, parsed.value())
        elif OmegaConf.select(whole, parsed.key_or_group, default=_ABSENT) is _ABSENT:
            *parents, name = parsed.key_or_group.split(".")
            allowed = list(OmegaConf.select(whole, ".".join(parents), default={}) if parents else whole)
            raise ConfigError(f"{parsed.key_or_group} does not exist{nearest(name, map(str, allowed))}.")
        else:
            OmegaConf.update(whole, parsed.key_or_group, parsed.value(), force_add=True)
    return checked(whole)


def _check_same_group(whole: DictConfig, group: str, name: Any) -> None:
    """Raise ConfigError unless a run was started with this file of a group."""
    found = OmegaConf.select(whole, f"{GROUP_PLACES.get(group, group)}.name")
    if found != name:
        raise ConfigError(
            f"{group}={name}: this run was started with {group}={found}, which stays as it is. Leave the word out."
        )


def stage_settings(stage: str, whole: DictConfig | Mapping[str, Any]) -> schema.Settings:
    """Return a read-only configuration in which only the keys that the stage declares are filled in.

    The whole one is checked already.
    """
    sliced = OmegaConf.merge(_structure(), stage_slice(stage, whole))
    OmegaConf.set_readonly(sliced, True)
    return cast(schema.Settings, sliced)


def stage_slice(stage: str, whole: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that a stage reads, as plain data. The configuration stays as it is."""
    tree = cast(Mapping[str, Any], OmegaConf.to_container(whole) if isinstance(whole, DictConfig) else whole)
    wanted = [key for key in STAGE_KEYS[stage] if not key.startswith("~")]
    dropped = [key[1:] for key in STAGE_KEYS[stage] if key.startswith("~")]
    sliced: dict[str, Any] = {}
    for key in wanted:
        _put(sliced, key, deepcopy(_get(tree, key)))
    for key in dropped:
        _drop(sliced, key)
    return sliced


def digest(stage: str, whole: DictConfig, *identity: str | int) -> str:
    """Return 16 hex digits that change if and only if the stage's keys, code or identity (game, seed) change."""
    return with_identity(digest_of_slice(stage, stage_slice(stage, whole)), *identity)


def with_identity(slice_digest: str, *identity: str | int) -> str:
    """Return the digest of a stage for a run, from that of its slice."""
    return hashlib.sha256(json.dumps([slice_digest, *identity]).encode()).hexdigest()[:16]


def digest_of_slice(stage: str, sliced: dict[str, Any]) -> str:
    """Return the sha256 of a stage's code and slice; strips the slice of what decides no number, and of the run."""
    # The run's identity (game and seed) is hashed beside this, so that it is composed once for all of them.
    identity = ("common.seed", "env.train.id", "env.test.id", "env.keymap")
    for key in (*NOT_IN_DIGEST, *identity):
        _drop(sliced, key)
    code = source.digest(f"irisflow.stages.{stage}", *part_modules(sliced))
    return hashlib.sha256((json.dumps(sliced, sort_keys=True) + code).encode()).hexdigest()


def digest_of_values(stage: str, values: Mapping[str, Any]) -> str:
    """Return the digest of a stage that reads no run configuration: its own values and its code."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256((text + source.digest(f"irisflow.stages.{stage}")).encode()).hexdigest()[:16]


def to_yaml(settings: schema.Settings | DictConfig) -> str:
    """Return a configuration as YAML, without the keys that are not filled in."""
    plain = _filled(OmegaConf.to_container(cast(DictConfig, settings)))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def part_modules(tree: Mapping[str, Any] | DictConfig) -> list[str]:
    """Return the modules of the parts that a configuration names: they are imported by name, unseen by `source`."""
    plain = OmegaConf.to_container(tree) if isinstance(tree, DictConfig) else tree
    named = _named_variants(cast(Mapping[str, Any], plain))
    return [f"{variants.FAMILIES[family]}.{settings['name']}" for _, family, settings in named]


def _named_variants(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (dotted key, family, settings) of each variant that a configuration names."""
    tokenizer, world_model = tree.get("tokenizer") or {}, tree.get("world_model") or {}
    if "quantizer" in tokenizer:
        yield "tokenizer.quantizer", "quantizer", tokenizer["quantizer"]
    for term, settings in (tokenizer.get("reconstruction") or {}).items():
        yield f"tokenizer.reconstruction.{term}", "reconstruction", {"name": term, **settings}
    for family in ("backbone", "prediction", "reward"):
        if family in world_model:
            yield f"world_model.{family}", family, world_model[family]
    if "actor_critic" in tree:
        yield "actor_critic", "actor_critic", tree["actor_critic"]


def _compose(overrides: list[str]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    _check_groups(overrides)
    placed = [_placed(override) for override in overrides]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(PARAMS)):
            return cast(DictConfig, hydra_compose("config", overrides=placed))
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        raise ConfigError(_composition_reason(cause, placed)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"a file under params/ is not valid YAML: {' '.join(str(error).split())}") from None


def _composition_reason(error: BaseException, overrides: list[str]) -> str:
    """Return why Hydra refused: for an unknown key, the key, the nearest ones and all that its parent has."""
    key = getattr(error, "full_key", None)
    if not key or "not in struct" not in str(error):
        return f"{' '.join(overrides)}: {' '.join(str(error).split())}"
    groups = [override for override in overrides if (PARAMS / override.split("=")[0].split("@")[0]).is_dir()]
    parent: Any = _compose(groups)
    for part in key.split(".")[:-1]:
        parent = parent[part]
    allowed = [str(name) for name in parent]
    return f"{key} does not exist{nearest(key.split('.')[-1], allowed)}. Allowed there: {', '.join(allowed)}."


def _placed(override: str) -> str:
    group, equals, value = override.partition("=")
    return f"{group}@{GROUP_PLACES[group]}={value}" if group in GROUP_PLACES and equals else override


def _check_groups(overrides: list[str]) -> None:
    """Raise ConfigError if an override cannot be read, or names a file that `params/` does not have."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            raise ConfigError(f"{override!r} is not an override. Allowed: key=value.") from None
        if parsed.is_sweep_override():
            raise ConfigError(f"{override!r} asks for a sweep. Use a study (params/study/) for many runs.")
        group = parsed.key_or_group
        if (PARAMS / group).is_dir() and "/" not in group and group not in ("", ".", ".."):
            chosen = parsed.value()
            for name in chosen if isinstance(chosen, list) else [chosen]:
                check_choice(group, str(name))


def checked(composed: DictConfig) -> DictConfig:
    """Return a composed configuration, resolved and merged into the schema; each value within its range."""
    try:
        resolved = OmegaConf.create(cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True)))
        typed = OmegaConf.merge(_structure(), resolved)
    except OmegaConfBaseException as error:
        raise ConfigError(_reason(error)) from None
    assert isinstance(typed, DictConfig)
    _check_ranges(schema.Settings, typed, "")
    for key, family, settings in list(_named_variants(cast(dict[str, Any], OmegaConf.to_container(typed)))):
        named = {} if family == "reconstruction" else {"name": settings["name"]}
        values = variants.checked(family, settings, key)
        _check_bounds(key, values, variants.least(family, settings["name"]))
        OmegaConf.update(typed, key, {**named, **values}, merge=False)
    _check_agreement(typed)
    _check_corpus(typed)
    _check_control(typed)
    _check_collection(typed)
    _check_recording(typed)
    return typed


def _check_chosen(choice: Choice, settings: DictConfig) -> None:
    """Raise ConfigError where a file or an override names another part than the choice: results would bear a wrong name."""
    for group in (f.name for f in fields(Choice) if f.name != "overrides"):
        chosen, found = getattr(choice, group), settings[group].name
        if chosen not in (None, found):
            raise ConfigError(
                f"{group} is {found!r}, but {chosen!r} was asked for, and results would bear that name. Allowed: the name"
                f" {chosen!r} in params/{group}/{chosen}.yaml, and no other {group} in the overrides."
            )


@cache
def _structure() -> DictConfig:
    """Return the schema with nothing filled in; merging copies it."""
    return cast(DictConfig, OmegaConf.structured(schema.Settings))


def _reason(error: OmegaConfBaseException) -> str:
    first = str(error).splitlines()[0]
    parent = error.parent_node
    allowed = ", ".join(str(key) for key in parent) if isinstance(parent, DictConfig) else ""
    mend = f" Allowed there: {allowed}." if "not in" in first and allowed else " See src/irisflow/schema.py."
    return f"{error.full_key or 'configuration'}: {first}.{mend}"


def _check_ranges(kind: type, node: DictConfig, prefix: str) -> None:
    for f in fields(kind):
        key = f"{prefix}{f.name}"
        if OmegaConf.is_missing(node, f.name):
            raise ConfigError(
                f"{key} has no value. Give it one in params/config.yaml or on the command line."
            )
        value = node[f.name]
        if isinstance(f.type, type) and is_dataclass(f.type):
            _check_ranges(f.type, value, f"{key}.")
        elif value is not None:
            _check_value(key, value, f.metadata)


def _check_bounds(key: str, values: Mapping[str, Any], least: Mapping[str, float]) -> None:
    """Raise ConfigError for a variant's value, or a list's member, that is not finite or below its least."""
    for name, value in values.items():
        for member in value if isinstance(value, list) else [value]:
            _check_value(f"{key}.{name}", member, {"least": least.get(name)})


def _check_value(key: str, value: Any, bounds: Mapping[str, Any]) -> None:
    least, most, among = bounds.get("least"), bounds.get("most"), bounds.get("among")
    if among is not None and value not in among:
        raise ConfigError(f"{key} is {value!r}; allowed: {', '.join(among)}.")
    if isinstance(value, int | float) and not math.isfinite(value):
        raise ConfigError(f"{key} is {value}; allowed: a finite number.")
    if (least is not None and value < least) or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise ConfigError(f"{key} is {value}; allowed: {allowed}.")


def _check_agreement(settings: DictConfig) -> None:
    """Raise ConfigError where keys that must agree do not."""
    if not any(term.weight for term in settings.tokenizer.reconstruction.values()):
        terms = ", ".join(settings.tokenizer.reconstruction) or "none"
        raise ConfigError(
            f"tokenizer.reconstruction has no term with a weight above 0 (terms: {terms}); the tokenizer would not learn to"
            " reconstruct. Give one a weight: tokenizer.reconstruction.l1.weight=1."
        )
    sizes = settings.tokenizer.encoder.config
    tokens = _tokens_per_frame(sizes.resolution, sizes.ch_mult, settings.tokenizer.tokens_per_position)
    if settings.env.train.size != sizes.resolution:
        raise ConfigError(
            f"env.train.size is {settings.env.train.size} but tokenizer.encoder.config.resolution is {sizes.resolution};"
            " they must be equal."
        )
    if settings.world_model.tokens_per_block != tokens + 1:
        raise ConfigError(
            f"world_model.tokens_per_block is {settings.world_model.tokens_per_block}; the tokenizer gives {tokens}"
            f" tokens a frame, so it must be {tokens + 1}."
        )
    if settings.world_model.embed_dim % settings.world_model.num_heads:
        raise ConfigError(
            f"world_model.embed_dim is {settings.world_model.embed_dim}; it must be a multiple of"
            f" world_model.num_heads ({settings.world_model.num_heads})."
        )
    context = settings.evaluation.world_model_quality.context
    if context >= settings.world_model.max_blocks:
        raise ConfigError(
            f"evaluation.world_model_quality.context is {context}; allowed: less than world_model.max_blocks"
            f" ({settings.world_model.max_blocks})."
        )
    if settings.common.sequence_length > settings.world_model.max_blocks:
        raise ConfigError(
            f"common.sequence_length is {settings.common.sequence_length}; allowed: up to world_model.max_blocks"
            f" ({settings.world_model.max_blocks})."
        )


def _tokens_per_frame(resolution: int, ch_mult: Sequence[int], per_position: int) -> int:
    """Return K: each level of the encoder but the last halves the picture's side."""
    side = int(resolution) >> (len(ch_mult) - 1)
    return side * side * int(per_position)


def _check_start(settings: DictConfig) -> None:
    """Raise ConfigError for a part that is neither loaded nor trained, and for a world model that its corpus cannot make."""
    start = settings.initialization
    for part in ("tokenizer", "world_model"):
        trained = settings.training[part].trained
        is_named = start.path_to_checkpoint is not None and start[f"load_{part}"]
        if trained != "all" and start[part] == "scratch" and not is_named:
            raise ConfigError(
                f"training.{part}.trained is {trained}, but nothing gives the {part} weights: it would stay random."
                f" Allowed: all; {trained} with initialization.{part}=pretrained or initialization.path_to_checkpoint."
            )
    if start.world_model == "pretrained":
        check_actions(settings.world_model.actions, corpus=settings.corpus.name)


def _check_corpus(settings: DictConfig) -> None:
    """Raise ConfigError for a pool without games, with one that does not exist, or one twice; and for a pool of `own`."""
    name, pool = settings.corpus.name, list(settings.corpus.games)
    if (name == "own") == bool(pool) or len(set(pool)) != len(pool):
        allowed = "none: it is the game itself" if name == "own" else "one or more, each once"
        raise ConfigError(f"corpus.games is {pool}; allowed with corpus.name={name}: {allowed}.")
    for game in pool:
        try:
            games.check_run_game(game)
        except ConfigError as error:
            raise ConfigError(f"corpus.games: {error}") from None


def _check_control(settings: DictConfig) -> None:
    """Raise ConfigError where frames of another segment are wanted and a batch has only one."""
    num_segments = settings.training.actor_critic.batch_num_samples
    if settings.training.control.frames == "foreign" and num_segments < 2:
        raise ConfigError(
            f"training.actor_critic.batch_num_samples is {num_segments}; allowed with training.control.frames=foreign:"
            " 2 or more."
        )


def _check_collection(settings: DictConfig) -> None:
    """Raise ConfigError for a collection that the collector or the evaluation cannot do."""
    train, test = settings.collection.train, settings.collection.test
    if train.num_envs != 1:
        raise ConfigError(f"collection.train.num_envs is {train.num_envs}; allowed: 1, as in IRIS.")
    if not train.config.num_steps or train.config.num_episodes:
        raise ConfigError("collection.train.config: give num_steps, 1 or more, and no num_episodes.")
    if not test.config.num_episodes or test.config.num_steps:
        raise ConfigError("collection.test.config: give num_episodes, 1 or more, and no num_steps.")


def _check_recording(settings: DictConfig) -> None:
    """Raise ConfigError for random play without a length, and for a data set without a name or episodes."""
    recording = settings.recording
    if recording.policy == "random" and (recording.dataset is not None or not recording.num_steps):
        raise ConfigError(
            f"recording.num_steps is {recording.num_steps} and recording.dataset {recording.dataset}; allowed with"
            " recording.policy=random: 1 or more steps, no data set."
        )
    if recording.policy == "recorded" and (recording.dataset is None or not recording.sha256):
        raise ConfigError(
            "recording.dataset names no data set that has episodes. Write recording=NAME, as `irisflow import-dataset` says."
        )


def _get(tree: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _drop(tree: dict[str, Any], key: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.get(part, {})
    tree.pop(last, None)


def _filled(tree: Any) -> Any:
    """Return plain data without the mandatory keys that have no value."""
    if not isinstance(tree, dict):
        return tree
    kept = {key: _filled(value) for key, value in tree.items() if value != "???"}
    return {key: value for key, value in kept.items() if value != {}}
