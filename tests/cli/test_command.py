"""The `irisflow` command, its catalogue, and the folder of parameters behind it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from irisflow import cli, params, variants
from irisflow.study import load_study

ROOT = Path(__file__).parents[2]
VARIANTS = sorted((ROOT / "params/variant").glob("*.yaml"))
FAMILIES_WITH_FILES = [family for family in variants.FAMILIES if family != "reconstruction"]


def test_help_comes_fast_and_needs_no_torch() -> None:
    code = (
        "import sys; from irisflow.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'hydra', 'omegaconf', 'snakemake', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - start)
        assert result.returncode == 0, result.stderr
    assert "train-agent" in result.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("stage", cli.STAGES)
def test_every_stage_has_a_subcommand_a_module_and_a_rule(stage: str) -> None:
    words = stage.replace("-", "_")
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert (ROOT / f"src/irisflow/stages/{words}.py").is_file()
    assert f"rule {words}:" in rules and f" -m irisflow {stage} " in rules


def test_the_catalogue_as_json_has_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert set(listing) == {"families", "variants", "studies", "scales", "games"}
    assert set(listing["families"]) == set(variants.FAMILIES)
    assert {"iris", "iris_pretrained"} <= set(listing["variants"])
    assert {"atari100k", "quick", "smoke"} <= set(listing["studies"])
    assert {"full", "quick", "smoke"} <= set(listing["scales"])
    assert len(listing["games"]) == 27


def test_the_catalogue_as_text_tells_each_variants_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(yaml.safe_load(path.read_text())["variant"]["question"] in text for path in VARIANTS)


def test_the_catalogue_as_text_says_what_each_part_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for family in variants.FAMILIES:
        start = lines.index(f"parts: {family}") + 1
        listed = dict(
            line.split(maxsplit=1) for line in lines[start : start + len(variants.available(family))]
        )
        assert sorted(listed) == variants.available(family)
        assert all(about.endswith((".", ":")) or len(about) > 20 for about in listed.values())


@pytest.mark.parametrize("family", FAMILIES_WITH_FILES)
def test_parameter_files_and_variant_modules_match_one_to_one(family: str) -> None:
    named = [yaml.safe_load(path.read_text())["name"] for path in (ROOT / "params" / family).glob("*.yaml")]
    assert sorted(set(named)) == variants.available(family)


def test_every_reconstruction_term_has_a_module_and_every_module_is_named() -> None:
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / "params/reconstruction").glob("*.yaml")]
    assert sorted({term for content in files for term in content}) == variants.available("reconstruction")


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_a_variant_names_parts_and_never_reaches_inside_one(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert "# Question: " in path.read_text()
    assert set(content) == {"defaults", "variant"}
    assert content["variant"]["name"] == path.stem
    assert set(content["variant"]) == {"name", "axis", "question"}
    for choice in content["defaults"]:
        ((group, name),) = choice.items()
        kind = group.removeprefix("override /")
        assert group.startswith("override /") and name in params.names(kind.partition("@")[0])


@pytest.mark.parametrize("name", params.names("study"))
def test_every_study_file_loads_and_its_variants_compose(name: str) -> None:
    study = load_study(name)
    for variant in study.variants:
        assert params.compose(study.choice(variant)).variant.name == variant


def test_dvc_versions_the_scale_of_the_default_study() -> None:
    study = load_study(yaml.safe_load((ROOT / "params/workflow.yaml").read_text())["study"])
    scales = [entry["scale"] for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["vars"]]
    assert scales == [study.scale]


def test_every_parameter_file_says_what_it_is_for() -> None:
    files = list((ROOT / "params").rglob("*.yaml"))
    assert all(path.read_text().startswith("#") for path in files)


@pytest.mark.parametrize("text", ["oops", '{"a": 1}', "3"])
def test_a_variable_that_is_no_list_of_overrides_is_refused_in_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRISFLOW_OVERRIDES", text)
    assert (
        cli.main(["evaluate", "--scale", "smoke", "--variant", "iris", "--game", "Pong", "--seed", "0"]) == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "IRISFLOW_OVERRIDES" in lines[0]
