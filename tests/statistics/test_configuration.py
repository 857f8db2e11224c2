"""Differences of configurations."""

from irisflow import compositions
from irisflow.params import Choice
from irisflow.statistics.configuration import changed_keys, settings_of


def test_only_keys_that_differ_are_told_with_both_values() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "name": "x", "variant": {"question": "?"}}
    own = {"a": {"b": 1, "c": [1, 3], "d": None}, "name": "y", "variant": {"question": "!"}}
    assert changed_keys(base, own) == (("a.c", "[1, 2]", "[1, 3]"), ("a.d", None, "null"), ("name", "x", "y"))
    assert changed_keys(base, base) == ()


def test_a_variants_own_changes_are_found() -> None:
    base, own = (compositions.values(Choice("smoke", variant=name)) for name in ("iris", "codebook_small"))
    changes = changed_keys(base, own)
    assert changes and all(key.startswith("tokenizer.") for key, _, _ in changes)


def test_every_setting_is_told_but_those_of_the_scale_and_the_name() -> None:
    tree = {"b": {"c": [1, 2], "a": "x"}, "scale": {"c": 3}, "variant": {"name": "iris"}}
    assert settings_of(tree) == (("b.a", "x"), ("b.c", "[1, 2]"))
