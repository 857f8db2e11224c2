"""The documents say what is true of this checkout."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import yaml
from documentation import ROOT, blocks, commands, documents, tracked
from dvc.cli import parse_args as parse_dvc
from snakemake.cli import get_argument_parser

from irisflow import cli, launch, params
from irisflow.iris_words import understood
from irisflow.study import load_study
from irisflow.workflow import CONFIG_KEYS

README, CONTRIBUTING, BY_HAND = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/by-hand.md"
PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents()]
RECORDS = [pytest.param(path, id=path.stem) for path in documents() if path.parent.name == "adr"]
QUOTED = [(page, words) for page in (README, CONTRIBUTING, BY_HAND) for words in commands(page)]
COMMANDS = [pytest.param(words, id=f"{page.stem}: {' '.join(words)}") for page, words in QUOTED]
TARGETS = {"reports/summary.pdf", "datasets", "pretrained", "agents", "scores", "measurements"}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    broken = [link for link in links if not urlsplit(link).scheme and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "irisflow"])
def test_a_quoted_irisflow_command_is_understood(words: list[str]) -> None:
    assert cli._parser().parse_args(words[1:]).command in {
        *cli.STAGES,
        "bench",
        "compare",
        "export-checkpoint",
        "import-checkpoint",
        "import-dataset",
        "list",
        "play",
        "pull",
        "verify",
    }


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "snakemake"])
def test_a_quoted_snakemake_command_names_targets_rules_studies_and_profiles_that_exist(
    words: list[str],
) -> None:
    options = get_argument_parser().parse_args(words[1:])
    assert set(options.targets) <= TARGETS
    rules = {name for path in (ROOT / "workflow/rules").glob("*.smk") for name in _rules(path)}
    assert set(options.forcerun or ()) <= rules
    for setting in options.config or ():
        key, _, name = setting.partition("=")
        assert key in CONFIG_KEYS
        assert key != "study" or load_study(name).name == name
    for profile in filter(None, (options.profile, options.workflow_profile)):
        assert (ROOT / profile / "config.yaml").is_file()


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][:2] == ["dvc", "repro"]])
def test_a_quoted_dvc_command_names_stages_that_exist(words: list[str]) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    assert set(parse_dvc(words[1:]).targets or ()) <= stages.keys()


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "python"])
def test_a_quoted_run_by_hand_has_a_valid_configuration(words: list[str]) -> None:
    if words[1] == "./scripts/eval.py":
        assert launch.evaluation_parser().parse_args(words[2:])
        return
    assert words[1] == "src/main.py"
    game = params.settings_from(understood(words[2:]).overrides).env.train.id
    assert game in ("BreakoutNoFrameskip-v4", "ALE/Breakout-v5", "Breakout")


def test_no_quoted_command_is_left_unchecked() -> None:
    checked = {"irisflow", "snakemake", "dvc", "python", "pytest", "./check", ".", "true", "uv"}
    checked |= {f"./scripts/{path.name}" for path in (ROOT / "scripts").glob("*.sh")}
    assert {words[0] for _, words in QUOTED} <= checked


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["-n", "--config", "study=atari100k"], ["agents", "--cores", "8", "-n"]]
)
def test_quoted_plans_are_made(arguments: list[str], tmp_path: Path) -> None:
    checkout = _copy(tmp_path)
    result = _run(checkout, sys.executable, "-m", "snakemake", *arguments, "--quiet", "rules")
    assert result.returncode == 0, result.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE))
    assert int(counts["train_agent"]) == (260 if "study=atari100k" in arguments else 8)
    if "study=atari100k" in arguments:
        assert f"{counts['total']} jobs" in README.read_text("utf-8")


def test_the_page_of_all_keys_is_current() -> None:
    module = _make_configuration()
    for target, page in ((module.TARGET, module.page()), (module.IRIS_TARGET, module.iris_page())):
        assert target.read_text("utf-8") == page, "run docs/make_configuration.py"


def test_the_page_of_all_keys_marks_only_keys_that_exist() -> None:
    module = _make_configuration()
    page = module.page()
    for key in (*module.WITHOUT_EFFECT, *module.ADDED):
        assert f"`{key}`" in page or f"`{key}." in page, key


def test_nothing_reads_the_keys_that_are_said_to_have_no_effect() -> None:
    readers = [path for path in (ROOT / "src").rglob("*.py") if path.name != "schema.py"]
    code = "\n".join(path.read_text("utf-8") for path in readers)
    for word in (
        "test.stop_after_epochs",
        "test.config.burn_in",
        "datasets.train.max_num",
        "datasets.test.max_ram",
    ):
        assert word not in code


def test_no_stage_of_the_pipeline_reads_the_keys_of_a_run_by_hand() -> None:
    folders = [path for path in (ROOT / "src/irisflow").iterdir() if path.is_dir() and path.name != "by_hand"]
    code = "\n".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))
    for word in (
        "num_episodes_to_save",
        "save_reconstructions",
        "evaluation.actor_critic",
        "whole.wandb",
        "whole.logging",
    ):
        assert word not in code


@pytest.mark.parametrize("record", RECORDS)
def test_every_decision_has_context_decision_and_consequences(record: Path) -> None:
    headings = re.findall(r"^## (.+?)(?: \(.*)?$", record.read_text("utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "Measured"]
    assert f"adr/{record.name}" in (ROOT / "docs/README.md").read_text("utf-8")


def test_ci_calls_the_test_command_of_the_readme() -> None:
    command = "./run pytest"
    assert command in "\n".join(blocks(README, "sh"))
    assert command in (ROOT / ".ci/run").read_text("utf-8").splitlines()


def test_no_tracked_file_names_a_package_index_or_a_place_on_one_machine() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted.org", *_own_index_hosts()]
    places = ["/" + folder + "/" for folder in ("root", "home", "work")]
    forbidden = re.compile("|".join(map(re.escape, [*hosts, *places])))
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if (match := forbidden.search(path.read_bytes().decode("utf-8", "replace")))
    ]
    assert not found


def _own_index_hosts() -> list[str]:
    addresses = (os.environ.get(name, "") for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"))
    return [host for address in addresses if (host := urlsplit(address).hostname)]


def _rules(path: Path) -> list[str]:
    return re.findall(r"^rule (\w+):", path.read_text("utf-8"), re.MULTILINE)


def _make_configuration() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_configuration", ROOT / "docs/make_configuration.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copy(folder: Path) -> Path:
    """Return a folder with what Snakemake and the stages need, from git's files."""
    for path in tracked():
        name = path.relative_to(ROOT)
        if name.parts[0] in ("Snakefile", "src", "params", "workflow", "profiles"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
    return folder


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
