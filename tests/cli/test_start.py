"""Commands do not compute, and do not import, what they have no need of. Nothing here measures time."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import workspace
from irisflow import compositions, params, paths
from irisflow.params import STAGE_KEYS, Choice
from irisflow.stages.current import is_current
from irisflow.stages.request import RunRequest
from irisflow.storage import MANIFEST
from irisflow.study import load_study
from irisflow.workflow import StudyPlan

RUN = ("--scale", "smoke", "--game", "Catch", "--seed", "0")
TOKENIZER = ("--tokenizer", "iris", "--corpus", "own")
COMMANDS = {
    "help": ["--help"],
    "list": ["list"],
    "verify": ["verify", "--study", "smoke"],
    "collect": ["collect", *RUN],
    "pretrain-tokenizer": ["pretrain-tokenizer", *TOKENIZER, *RUN],
    "train-agent": ["train-agent", "--variant", "iris", *RUN],
    "hold-out": ["hold-out", "--variant", "iris", *RUN],
    "measure-world-model": [
        *("measure-world-model", "--variant", "iris", *RUN),
        *("--held-out", str(paths.held_out("smoke", "iris", "Catch", 0))),
    ],
}
MAKING = ("collect", "pretrain-tokenizer", "train-agent")
FOLDERS = {
    "collect": paths.recording("smoke", "Catch", 0),
    "pretrain-tokenizer": paths.tokenizer("smoke", "iris", "own", "Catch", 0),
    "train-agent": paths.agent("smoke", "iris", "Catch", 0),
}
# What takes a second or more to import, and is needed only by what names it.
HEAVY = (
    "torch._dynamo", "sympy", "torchmetrics", "torchvision", "lpips", "vector_quantize_pytorch", "transformers", "peft",
    "pandas", "scipy", "matplotlib", "rliable", "snakemake", "dvc", "wandb",
)  # fmt: skip
PROGRAM = """
import json, sys
from irisflow.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    print("\\nRESULT", json.dumps([code, sorted(sys.modules)]), flush=True)
"""


def outcomes(folder: Path, *commands: str) -> tuple[list[tuple[int, set[str]]], str]:
    """Return the exit code of each command and what was imported by then, all in one process; and its stderr."""
    asked = json.dumps([COMMANDS[command] for command in commands])
    result = workspace.run(folder, sys.executable, "-c", PROGRAM, asked, check=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    found = [json.loads(line.removeprefix("RESULT ")) for line in lines]
    return [(code, set(modules)) for code, modules in found], result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, set[str]]]]:
    """A workspace in which three stages ran by hand, and how they ended."""
    folder = workspace.copy_checkout(tmp_path_factory.mktemp("made"))
    return folder, outcomes(folder, *MAKING)[0]


@pytest.fixture
def copied(made: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the artefacts of that workspace, to change; the working directory."""
    for name in ("data", "results"):
        shutil.copytree(made[0] / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request_of(command: str, *overrides: str) -> RunRequest:
    groups = {
        "collect": {},
        "pretrain-tokenizer": {"tokenizer": "iris", "corpus": "own"},
        "train-agent": {"variant": "iris"},
    }[command]
    stage = command.replace("-", "_")
    return RunRequest.checked(stage, "smoke", "Catch", 0, list(overrides), None, **groups)


def test_help_the_catalogue_and_verify_import_nothing_heavy(tmp_path: Path) -> None:
    for name in ("src", "params"):
        (tmp_path / name).symlink_to(workspace.ROOT / name)
    results, _ = outcomes(tmp_path, "help", "list", "verify")
    assert [code for code, _ in results] == [0, 0, 3]
    assert not results[-1][1] & {"torch", "gymnasium", *HEAVY}
    assert not results[0][1] & {"hydra", "omegaconf", "numpy"}


@pytest.mark.slow
def test_training_imports_torch_but_neither_its_compiler_nor_what_it_does_not_use(
    made: tuple[Path, list[tuple[int, set[str]]]],
) -> None:
    codes = [code for code, _ in made[1]]
    assert codes == [0, 0, 0]
    assert "torch" in made[1][-1][1] and not made[1][-1][1] & set(HEAVY)


@pytest.mark.slow
def test_measuring_a_world_model_imports_nothing_heavy_either(made: tuple[Path, object]) -> None:
    results, _ = outcomes(made[0], "hold-out", "measure-world-model")
    assert [code for code, _ in results] == [0, 0]
    assert "torch" in results[-1][1] and not results[-1][1] & set(HEAVY)


@pytest.mark.slow
def test_a_stage_that_has_nothing_to_do_says_so_without_torch_and_leaves_everything(
    made: tuple[Path, object],
) -> None:
    before = workspace.snapshot(made[0])
    results, stderr = outcomes(made[0], *MAKING)
    assert [code for code, _ in results] == [0, 0, 0]
    assert not results[-1][1] & {"torch", "gymnasium", *HEAVY}
    for folder in FOLDERS.values():
        assert f"{folder} is current, nothing to do" in stderr
    assert workspace.snapshot(made[0]) == before


@pytest.mark.slow
def test_a_forced_stage_runs(made: tuple[Path, object]) -> None:
    manifest = made[0] / FOLDERS["collect"] / MANIFEST
    before = manifest.stat().st_mtime_ns
    result = workspace.irisflow(made[0], *COMMANDS["collect"], "--force", check=True)
    assert manifest.stat().st_mtime_ns > before and "nothing to do" not in result.stderr


@pytest.mark.slow
def test_a_stage_that_snakemake_is_told_to_run_again_runs(made: tuple[Path, object]) -> None:
    target = FOLDERS["collect"] / MANIFEST
    snakemake = (str(target), "--cores", "1", "--config", "study=smoke")
    workspace.snakemake(made[0], *snakemake, check=True)  # takes in what was made by hand, or makes it
    before = (made[0] / target).stat().st_mtime_ns
    forced = workspace.snakemake(made[0], *snakemake, "--forcerun", "collect", check=True)
    assert (made[0] / target).stat().st_mtime_ns > before, forced.stderr
    again = workspace.snakemake(made[0], *snakemake, check=True)
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", MAKING)
def test_what_was_made_is_current_until_a_byte_of_it_changes(command: str, copied: Path) -> None:
    assert is_current(request_of(command))
    folder = FOLDERS[command]
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        whole = file.read_bytes()
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert not is_current(request_of(command)), file
        file.unlink()
        assert not is_current(request_of(command)), file
        file.write_bytes(whole)
    assert is_current(request_of(command))


@pytest.mark.slow
def test_another_configuration_is_not_current(copied: Path) -> None:
    assert is_current(request_of("train-agent", "common.device=cuda:0")), "the device decides no number"
    assert not is_current(request_of("train-agent", "training.actor_critic.gamma=0.5"))
    assert not is_current(replace(request_of("train-agent"), digest="0" * 16))


@pytest.mark.slow
def test_what_is_to_be_resumed_is_not_current(copied: Path) -> None:
    request = request_of("train-agent")
    paths.resume(request.stage, request.digest).mkdir(parents=True)
    assert not is_current(request)


@pytest.mark.slow
@pytest.mark.parametrize("name", [paths.EPISODES, MANIFEST])
def test_what_stands_on_another_or_damaged_input_is_not_current(name: str, copied: Path) -> None:
    file = FOLDERS["collect"] / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-2] + b"\0\0")
    assert not is_current(request_of("pretrain-tokenizer"))
    file.unlink()
    assert not is_current(request_of("pretrain-tokenizer"))


@pytest.mark.slow
def test_an_artefact_at_the_address_of_another_is_not_current(copied: Path) -> None:
    other = paths.recording("smoke", "Catch", 1)
    shutil.copytree(FOLDERS["collect"], other)
    request = replace(request_of("collect"), seed=1)
    assert not is_current(request)


VARIANTS = ["iris", "iris_pretrained"]


def test_games_and_seeds_cost_a_plan_no_composition() -> None:
    small = replace(load_study("smoke"), variants=VARIANTS, games=["Pong"], seeds=[0])
    ask_for_all(StudyPlan(small))
    asked, slices = compositions.values.cache_info().misses, compositions._choice_digest.cache_info().misses
    ask_for_all(StudyPlan(replace(small, games=["Pong", "Breakout", "Alien"], seeds=[0, 1, 2])))
    assert compositions.values.cache_info().misses == asked
    assert compositions._choice_digest.cache_info().misses == slices


def ask_for_all(plan: StudyPlan) -> None:
    """Ask for the digests and inputs of all jobs, as the Snakefile does."""
    scale = plan.study.scale
    for _, variant, game, seed in plan.runs:
        plan.initial_weights(scale=scale, variant=variant, game=game, seed=seed)
        for stage in ("train_agent", "evaluate", "hold_out", "measure_world_model"):
            plan.digest(stage, scale=scale, game=game, seed=str(seed), variant=variant)
        plan.digest("collect", scale=scale, game=game, seed=str(seed))
    assert plan.files and plan.records


@pytest.mark.parametrize("stage", STAGE_KEYS)
def test_a_planned_digest_is_that_of_the_composed_configuration(stage: str) -> None:
    choice = Choice("smoke", variant="iris", overrides=("training.actor_critic.gamma=0.9",))
    for game, seed in (("Pong", 0), ("Breakout", 3)):
        expected = params.digest(stage, params.compose(choice), game, seed)
        assert compositions.planned_digest(stage, choice, game, seed) == expected


PROBE = """
import json, sys
from irisflow import compositions
from irisflow.params import Choice
print(json.dumps(compositions.values(Choice("smoke", variant="iris", overrides=tuple(sys.argv[1:])))))
print("hydra" in sys.modules)
"""


def probe(folder: Path, *overrides: str) -> tuple[dict[str, object], bool]:
    """Return the values of a composition in a new process, and whether that had to compose them."""
    printed = workspace.run(folder, sys.executable, "-c", PROBE, *overrides, check=True).stdout.splitlines()
    return json.loads(printed[0]), printed[1] == "True"


@pytest.mark.slow
def test_a_composition_is_kept_between_processes_until_what_it_stands_on_changes(tmp_path: Path) -> None:
    for name in ("src", "params"):
        shutil.copytree(workspace.ROOT / name, tmp_path / name)
    first, was_composed = probe(tmp_path)
    assert was_composed and first == OmegaConf.to_container(params.compose(Choice("smoke", variant="iris")))
    assert probe(tmp_path) == (first, False)
    changed, was_composed = probe(tmp_path, "training.actor_critic.gamma=0.5")
    assert was_composed and changed != first
    damages: tuple[Callable[[bytes], bytes], ...] = (
        lambda content: content[:-9],
        lambda content: content.replace(b"0.995", b"0.895"),
        lambda _: b"[]",
    )
    for damaged in damages:
        for file in (tmp_path / ".cache/compositions").rglob("*.json"):
            file.write_bytes(damaged(file.read_bytes()))
        assert probe(tmp_path) == (first, True), "composed again"
        assert probe(tmp_path) == (first, False)
    workspace.edit(tmp_path / "params/scale/smoke.yaml", r"note: .*", "note: another")
    again, was_composed = probe(tmp_path)
    assert was_composed and again["scale"]["note"] == "another"  # type: ignore[index]
    assert len(list((tmp_path / ".cache/compositions").iterdir())) == 1, (
        "those of the other state are forgotten"
    )


TOGETHER = """
import os, sys
from irisflow import compositions, params
from irisflow.params import Choice
asked = [Choice("smoke", variant=name) for name in ("iris", "codebook_small")]
wrong = Choice("smoke", variant="iris", overrides=("training.actor_critic.gamma=2",))
os.sched_getaffinity = lambda _: {0, 1}
compositions.keep_all([asked[0], wrong, asked[1]])
kept = len(list(compositions.KEPT.rglob("*.json")))
was_composed_here = "hydra" in sys.modules
print(kept, was_composed_here, [compositions.values(choice) == params.compose(choice) for choice in asked])
"""


@pytest.mark.slow
def test_what_a_study_lacks_is_composed_by_other_processes_and_is_the_same(tmp_path: Path) -> None:
    for name in ("src", "params"):
        shutil.copytree(workspace.ROOT / name, tmp_path / name)
    result = workspace.run(tmp_path, sys.executable, "-c", TOGETHER, check=True)
    assert result.stdout.splitlines() == ["2 False [True, True]"]
    assert not result.stderr, "the wrong one is passed over"
