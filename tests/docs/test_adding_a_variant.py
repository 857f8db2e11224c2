"""docs/adding-a-variant.md, followed to the letter in a copy of this checkout."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from workspace import ROOT, copy_checkout, run

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs/adding-a-variant.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0].splitlines()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout and its tests, with the page's files written into it."""
    folder = copy_checkout(tmp_path_factory.mktemp("checkout"))
    for path in (ROOT / "tests").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for name, content in FILES:
        assert not (folder / name).exists(), f"{name} is there already: the page's example needs another name"
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def do(folder: Path, command: str) -> str:
    """Return what a command of the page prints. It must succeed."""
    program, *arguments = shlex.split(command)
    if program == "pytest":
        arguments = ["-p", "no:cacheprovider", "-n", "0", *arguments]
    result = run(folder, sys.executable, "-m", program, *arguments)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def test_the_page_has_two_parts_their_settings_their_variants_and_a_study() -> None:
    assert [Path(name).parent.name for name, _ in FILES] == [
        *("quantizers", "quantizer", "tokenizer", "variant"),
        *("backbones", "backbone", "world_model", "variant", "study"),
    ]
    assert [command.split()[0] for command in COMMANDS] == ["irisflow", "pytest", "snakemake", "snakemake"]


def test_what_it_adds_is_listed_keeps_its_contracts_and_is_compared(checkout: Path) -> None:
    listing, contracts, plan, _ = (do(checkout, command) for command in COMMANDS)
    assert all(f"  {name} " in listing for name in ("quantizer_fixed", "backbone_averages"))
    assert re.search(r"(\d+) passed", contracts) and "failed" not in contracts
    assert re.search(r"^train_agent +3$", plan, re.MULTILINE)
    summary = (checkout / "reports/summary.json").read_text(encoding="utf-8")
    assert (checkout / "reports/summary.pdf").stat().st_size > 10_000
    assert all(name in summary for name in ("iris", "quantizer_fixed", "backbone_averages"))


def test_the_agents_were_trained_with_the_new_parts(checkout: Path) -> None:
    agents = checkout / "results/smoke/agents"
    for variant, line in (("quantizer_fixed", "name: fixed"), ("backbone_averages", "name: averages")):
        assert line in (agents / variant / "Catch/seed-0/params.yaml").read_text(encoding="utf-8")
