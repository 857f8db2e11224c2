"""A run imports the code of the parts that it uses, and of no others."""

import json
import subprocess
import sys
from functools import cache

import pytest

from irisflow import params, variants

HEAVY = ("transformers", "peft", "gguf", "vector_quantize_pytorch", "torchmetrics", "lpips", "torchvision")
PROGRAM = """
import json, os, sys
from irisflow import params
from irisflow.behaviour.agent import build_agent

params.settings_from(["scale=smoke"])  # imports what composes, and no part
for variant in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if os.fork() == 0:
        settings = params.settings_from(["scale=smoke", f"variant={variant}"])
        build_agent(settings, num_actions=3, full_action_ids=[4, 0, 3])
        print(json.dumps([variant, sorted(sys.modules)]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """The modules that are imported when a variant's agent has been built, by variant."""
    names = json.dumps(params.names("variant"))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, names], capture_output=True, text=True, check=True, timeout=500
    )
    found = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("["))
    return {variant: set(modules) for variant, modules in found}


@cache
def used(variant: str) -> set[str]:
    """Return the modules of the parts that a variant names."""
    whole = params.settings_from(["scale=smoke", f"variant={variant}"])
    return set(params.part_modules(whole))


@pytest.mark.slow
@pytest.mark.parametrize("variant", params.names("variant"))
def test_no_part_is_imported_that_is_not_used(variant: str, imported: dict[str, set[str]]) -> None:
    parts = {
        f"{package}.{name}"
        for family, package in variants.FAMILIES.items()
        for name in variants.available(family)
    }
    assert imported[variant] & parts <= used(variant)
    assert used(variant) & imported[variant], "it looks at the right modules"


@pytest.mark.slow
def test_iris_at_a_small_scale_imports_none_of_the_heavy_libraries(imported: dict[str, set[str]]) -> None:
    assert not imported["iris"] & set(HEAVY)
