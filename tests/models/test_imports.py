"""A run imports the code of the parts that it uses, and of no others."""

import json
import subprocess
import sys

import pytest

from irisflow import params, variants

HEAVY = ("transformers", "peft", "gguf", "vector_quantize_pytorch", "torchmetrics", "lpips", "torchvision")
PROGRAM = """
import json, os, sys
from importlib import import_module
from irisflow import params
from irisflow.behaviour.agent import build_agent

def tell(variant):
    sys.stdout.flush()
    if os.fork() == 0:
        settings = params.settings_from(["scale=smoke", f"variant={variant}"])
        build_agent(settings, num_actions=3, full_action_ids=[4, 0, 3])
        print(json.dumps([variant, sorted(sys.modules), params.part_modules(settings)]), flush=True)
        os._exit(0)
    os.wait()

params.settings_from(["scale=smoke"])  # imports what composes, and no part
tell("iris")
for library in json.loads(sys.argv[2]):  # once, not in every fork: of all others only our own modules are looked at
    import_module(library)
for variant in json.loads(sys.argv[1]):
    if variant != "iris":
        tell(variant)
"""
LIBRARIES = (
    "torch._dynamo", "vector_quantize_pytorch", "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert", "peft", "gguf",
)  # fmt: skip


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[set[str], set[str]]]:
    """The modules that are imported when a variant's agent has been built, and those of the parts that it names."""
    arguments = (json.dumps(names) for names in (params.names("variant"), LIBRARIES))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=500
    )
    found = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("["))
    return {variant: (set(imported), set(used)) for variant, imported, used in found}


@pytest.mark.slow
@pytest.mark.parametrize("variant", params.names("variant"))
def test_no_part_is_imported_that_is_not_used(
    variant: str, told: dict[str, tuple[set[str], set[str]]]
) -> None:
    parts = {
        f"{package}.{name}"
        for family, package in variants.FAMILIES.items()
        for name in variants.available(family)
    }
    imported, used = told[variant]
    assert imported & parts <= used
    assert used & imported, "it looks at the right modules"


@pytest.mark.slow
def test_iris_at_a_small_scale_imports_none_of_the_heavy_libraries(
    told: dict[str, tuple[set[str], set[str]]],
) -> None:
    imported, _ = told["iris"]
    assert not imported & set(HEAVY)
