"""A stage's digest changes if and only if a key changes that the stage reads, and it can read no other."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from irisflow import params, schema
from irisflow.params import NOT_IN_DIGEST, STAGE_KEYS, Choice

IDENTITY = ("common.seed", "env.train.id", "env.test.id", "env.keymap")
SCHEMA = OmegaConf.structured(schema.Settings)
WHOLE = params.compose(Choice("smoke", variant="iris"))


def leaves(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    if not isinstance(tree, dict):
        yield prefix.rstrip(".")
        return
    for key, value in tree.items():
        yield from leaves(value, f"{prefix}{key}.")


def is_under(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def reads(stage: str, key: str) -> bool:
    """Return whether the stage declares the key."""
    taken = tuple(name for name in STAGE_KEYS[stage] if not name.startswith("~"))
    dropped = tuple(name[1:] for name in STAGE_KEYS[stage] if name.startswith("~"))
    return is_under(key, taken) and not is_under(key, dropped)


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, 1] if isinstance(value, list) else f"{value}x"


@cache
def changed(key: str) -> DictConfig:
    """Return the configuration with another value at one key."""
    copy = OmegaConf.create(OmegaConf.to_container(WHOLE))
    OmegaConf.update(copy, key, other_value(OmegaConf.select(WHOLE, key)), merge=False)
    return copy


# Names of variants select a module; another one would have to exist.
SELECTING = re.compile(r"(tokenizer.quantizer|world_model.(backbone|prediction)|actor_critic).name")
KEYS = [key for key in sorted(leaves(OmegaConf.to_container(WHOLE))) if not SELECTING.fullmatch(key)]


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_a_digest_changes_if_and_only_if_a_used_key_changes(stage: str) -> None:
    before = params.digest(stage, WHOLE, "Pong", 0)
    for key in KEYS:
        decides = reads(stage, key) and not is_under(key, (*NOT_IN_DIGEST, *IDENTITY))
        assert (params.digest(stage, changed(key), "Pong", 0) != before) == decides, key


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_every_key_is_readable_if_and_only_if_the_stage_declares_it(stage: str) -> None:
    settings = params.stage_settings(stage, WHOLE)
    for key in KEYS:
        if reads(stage, key):
            assert OmegaConf.select(settings, key) == OmegaConf.select(WHOLE, key), key
        elif not _has_default(key):
            with pytest.raises((MissingMandatoryValue, KeyError, AttributeError)):
                _read(settings, key)


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_a_stage_cannot_change_its_settings(stage: str) -> None:
    with pytest.raises(Exception, match="read-only"):
        OmegaConf.update(params.stage_settings(stage, WHOLE), "common.seed", 5)


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_game_and_seed_decide_a_digest(stage: str) -> None:
    runs = [("Pong", 0), ("Pong", 1), ("Catch", 0)]
    assert len({params.digest(stage, WHOLE, game, seed) for game, seed in runs}) == 3


def test_a_digest_is_the_same_in_another_order_of_keys() -> None:
    plain = OmegaConf.to_container(WHOLE)
    assert isinstance(plain, dict)
    turned = OmegaConf.create(dict(reversed(plain.items())))
    for stage in STAGE_KEYS:
        assert params.digest(stage, turned, "Pong", 0) == params.digest(stage, WHOLE, "Pong", 0)


def _has_default(key: str) -> bool:
    """Return whether the schema gives the key a value of its own: None, for optional ones."""
    try:
        return _read(SCHEMA, key) is None
    except (MissingMandatoryValue, KeyError, AttributeError):
        return False


def _read(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings
