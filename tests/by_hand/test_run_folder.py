"""A run by hand leaves a folder that evaluates, and goes on to the same bytes, by its own copy of the code."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from irisflow.data.episodes import load_episodes
from irisflow.statistics.comparison import compared
from irisflow.statistics.sources import read_source
from workspace import copy_checkout, environment, run, snapshot, start, wait_for

pytestmark = pytest.mark.slow
LINE = (
    "env.train.id=Catch",
    "scale=smoke",
    "common.device=cpu",
    "common.epochs=3",
    "collection.train.stop_after_epochs=3",
    "wandb.mode=disabled",
)
# What must not depend on where a run was killed. Clocks are in timings.jsonl, cost.json and provenance.json.
EXACT = ("metrics.jsonl", "episodes.jsonl", "media", "checkpoints/last", "checkpoints/best")
CLOCKS = {"timings.jsonl", "cost.json", "provenance.json", "manifest.json"}


def launch(folder: Path, *words: str) -> tuple[str, ...]:
    return (sys.executable, str(folder / "src/main.py"), *LINE, *words)


def without_clocks(folder: Path) -> dict[str, str]:
    """Return the digests of what must be the same."""
    found = {}
    for name in EXACT:
        path = folder / name
        files = snapshot(path) if path.is_dir() else {"": path.read_text()}
        found |= {f"{name}/{key}": value for key, value in files.items() if key not in CLOCKS}
    return found


@pytest.fixture(scope="module")
def checkout_with_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which one run by hand has come to its end, in the folder `whole`."""
    folder = copy_checkout(tmp_path_factory.mktemp("by-hand"))
    run(folder, *launch(folder, "hydra.run.dir=whole"), check=True)
    return folder


@pytest.fixture
def whole(checkout_with_runs: Path) -> Path:
    return checkout_with_runs / "whole"


@pytest.fixture
def moved(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder elsewhere: what it needs must be inside it."""
    return Path(shutil.copytree(whole, tmp_path / "moved"))


def in_folder(
    folder: Path, *command: str, fault: str = "", **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Return a finished command that ran inside a run folder, without any path to a checkout."""
    without_path = {key: value for key, value in environment(folder).items() if key != "PYTHONPATH"}
    faults = {"IRISFLOW_FAULT": fault} if fault else {}
    return subprocess.run(
        command,
        cwd=folder,
        env={**without_path, **faults, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_folder_is_laid_out_as_iriss(whole: Path) -> None:
    names = {str(path.relative_to(whole)) for path in whole.rglob("*")}
    assert names >= {
        "checkpoints/last/agent.safetensors",
        "checkpoints/best/agent.safetensors",
        "checkpoints/resume/replay",
        "config/trainer.yaml",
        "media/episodes/imagination",
        "media/reconstructions/epoch_003.png",
        "metrics.jsonl",
        "episodes.jsonl",
        "timings.jsonl",
        "params/config.yaml",
        "scripts/eval.py",
        "scripts/play.sh",
        "scripts/resume.sh",
        "src/irisflow/training/loop.py",
        "src/main.py",
        "wandb",
    }
    assert os.access(whole / "scripts/resume.sh", os.X_OK) and os.access(whole / "scripts/play.sh", os.X_OK)
    for kind in ("train", "test", "imagination"):
        files = sorted((whole / "media/episodes" / kind).iterdir())
        assert any(path.name.startswith("best_") for path in files)
        for path in files:
            (episode,), notes = load_episodes(path)
            assert len(episode) > 0 and notes["game"] == "Catch" and notes["dataset"] == kind
    with Image.open(whole / "media/reconstructions/epoch_003.png") as picture:
        assert picture.size[0] == 4 * 66 + 2


def test_each_epoch_and_each_episode_has_a_row(whole: Path) -> None:
    epochs = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert epochs[-1].keys() >= {
        "train_dataset/return", "test_dataset/return", "imagination/return", "imagination/length",
        "tokenizer/train/total", "world_model/eval/total", "actor_critic/train/entropy",
    }  # fmt: skip
    rows = [json.loads(line) for line in (whole / "episodes.jsonl").read_text().splitlines()]
    for dataset in ("train_dataset", "test_dataset", "imagination"):
        numbers = [row["episode_num"] for row in rows if row["dataset"] == dataset]
        assert numbers == list(range(len(numbers))) and numbers
    assert all(abs(sum(row["action_histogram"]) - 1) < 1e-5 for row in rows)
    finished = sum(epoch["train_dataset/finished_episodes"] for epoch in epochs)
    assert finished == sum(row["dataset"] == "train_dataset" for row in rows)


def test_the_best_agent_is_that_of_the_first_epoch_with_the_highest_mean_return(whole: Path) -> None:
    epochs = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    returns = [row["test_dataset/return"] for row in epochs]
    best = json.loads((whole / "checkpoints/best/manifest.json").read_text())
    assert best["about"]["env_steps"] == epochs[returns.index(max(returns))]["env_steps"]


def test_a_comparison_has_the_runs_scores_while_training_its_losses_costs_and_configuration(
    moved: Path,
) -> None:
    evaluated = in_folder(moved, sys.executable, "scripts/eval.py", "--episodes", "2", "--device", "cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    compared_with = moved.with_name("theirs.csv")
    compared_with.write_text("variant,game,seed,score\ntheirs,Catch,0,1\n")
    found = compared([read_source(moved), read_source(compared_with)], reps=5)
    source = json.loads((moved / "checkpoints/last/provenance.json").read_text())
    told = found.summarise({**source, "stage": "compare"})
    result = json.loads((moved / "evaluation/last.json").read_text())
    assert told["games"]["Catch"]["variants"]["iris"]["seeds"] == {"0": result["mean"]}
    assert told["games"]["Catch"]["variants"]["iris"]["env_step"] == result["env_steps"] == 96
    epochs = [json.loads(line) for line in (moved / "metrics.jsonl").read_text().splitlines()]
    (curve,) = told["curves"]["games"]["Catch"]["iris"]["seeds"].values()
    assert curve == [[row["env_steps"], pytest.approx(row["test_dataset/return"])] for row in epochs]
    (losses,) = told["training"]["world model"]["iris"].values()
    assert losses == [[row["env_steps"], row["world_model/train/total"]] for row in epochs]
    assert told["cost"]["wall_s_by_variant"].keys() == {"iris"} and told["cost"]["phases"]
    assert dict(told["study"]["configuration"])["training.actor_critic.gamma"] == "0.995"
    assert found.records.each("reconstructions") and not told["world_model"]
    assert [remark["text"] for remark in found.remarks] == [
        "Only the scores of theirs are known here: costs, losses, pictures and world models are those of the others."
    ]
    (moved / "evaluation/last.json").write_text(json.dumps({**result, "agent_sha256": "an earlier one"}))
    stale = read_source(moved)
    assert list(stale.means.values()) == [result["mean"]] and not stale.records.jobs and stale.lost


def random_kills(seed: int) -> list[tuple[str, int]]:
    """Return places at which to kill one process after another."""
    rng = random.Random(seed)
    places = (
        "update.done",
        "write.half",
        "write.unsynced",
        "publish.rename",
        "collect.step",
        "checkpoint.rename",
    )
    return [(rng.choice(places), rng.randint(1, 20)) for _ in range(3)]


def test_a_run_killed_anywhere_goes_on_by_its_own_scripts_to_the_same_bytes(
    checkout_with_runs: Path, whole: Path, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    process = start(checkout_with_runs, *launch(checkout_with_runs, f"hydra.run.dir={tmp_path}/killed"))
    wait_for("checkpoints/resume/generation-*/manifest.json", tmp_path / "killed", process)
    process.kill()
    process.communicate()
    killed = tmp_path / "elsewhere"
    (tmp_path / "killed").rename(killed)  # a folder may be moved
    for name, count in random_kills(seed):
        in_folder(killed, "./scripts/resume.sh", fault=f"{name}:{count}:kill")
    result = in_folder(killed, "./scripts/resume.sh")
    assert result.returncode == 0, (seed, result.stderr)
    assert without_clocks(killed) == without_clocks(whole), f"seed {seed}: {random_kills(seed)}"


def test_a_folders_scripts_run_the_folders_code(moved: Path) -> None:
    code = moved / "src/irisflow/by_hand/evaluate.py"
    code.write_text(code.read_text().replace(": mean return", ": MEAN RETURN"))
    code = moved / "src/irisflow/by_hand/run.py"
    code.write_text(code.read_text().replace("run folder: ", "RUN FOLDER: "))
    evaluated = in_folder(moved, sys.executable, "./scripts/eval.py", "--episodes", "2", "--device", "cpu")
    assert "RETURN" in evaluated.stdout, evaluated.stderr
    assert "RUN FOLDER" in in_folder(moved, "./scripts/resume.sh").stderr


def test_a_finished_run_that_is_resumed_stays_as_it_is(moved: Path) -> None:
    before = without_clocks(moved)
    assert in_folder(moved, "./scripts/resume.sh").returncode == 0
    assert without_clocks(moved) == before


def test_eval_prints_one_line_and_writes_json_and_depends_on_the_seed_alone(moved: Path) -> None:
    line = (sys.executable, "scripts/eval.py", "--episodes", "7", "--device", "cpu")
    first = in_folder(moved, *line, "--envs", "3")
    assert first.returncode == 0, first.stderr
    assert (
        len(first.stdout.splitlines()) == 1
        and "Catch: mean return" in first.stdout
        and "7 episodes" in first.stdout
    )
    result = json.loads((moved / "evaluation/last.json").read_text())
    assert len(result["returns"]) == 7 and result["temperature"] == 0.5 and result["epsilon"] == 0
    again = in_folder(
        moved, *line, "--envs", "1", "--json", "--agent", "best", "evaluation.final.temperature=0.5"
    )
    assert json.loads(again.stdout)["agent"] == "best"
    last = in_folder(moved, *line, "--envs", "1", "--json")
    assert json.loads(last.stdout)["returns"] == result["returns"]
    other = in_folder(moved, *line, "--seed", "1", "--json")
    assert other.returncode == 0 and json.loads(other.stdout)["seed"] == 1


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--episodes", "0"), "1 or more"),
        (("--agent", "worst"), "best"),
        (("common.devise=cpu",), "nearest: device"),
        (("--device", "cuda:7"), "Type common.device=cpu"),
        (("scale=quick",), "scale=smoke"),
        (("--wandb", "online"), "wandb login"),
        (("env.test.id=Pong",), "expected"),
    ],
)
def test_a_wrong_evaluation_is_refused_in_one_line(whole: Path, words: tuple[str, ...], wanted: str) -> None:
    before = snapshot(whole)
    result = in_folder(whole, sys.executable, "scripts/eval.py", *words, HOME="/nonexistent")
    lines = result.stderr.splitlines()
    assert result.returncode != 0 and len(lines) == 1 and wanted in lines[0], result.stderr
    assert snapshot(whole) == before


def test_a_damaged_agent_is_not_evaluated(moved: Path) -> None:
    weights = moved / "checkpoints/last/agent.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    result = in_folder(moved, sys.executable, "scripts/eval.py", "--episodes", "1")
    assert result.returncode == 3 and "is damaged" in result.stderr and not (moved / "evaluation").exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("scale=quick",), "scale=smoke"),
        (("variant=quantizer_fsq",), "variant=iris"),
        (("common.epochs=9",), "digest"),
        (("common.epohcs=9",), "nearest: epochs"),
    ],
)
def test_a_run_that_goes_on_keeps_what_decides_its_numbers(
    whole: Path, words: tuple[str, ...], wanted: str
) -> None:
    result = in_folder(whole, "./scripts/resume.sh", *words)
    own = [line for line in result.stderr.splitlines() if line.startswith("irisflow: ")]
    assert result.returncode != 0 and len(own) == 1 and wanted in own[0], result.stderr


def test_a_run_that_goes_on_needs_no_longer_what_it_started_from(
    checkout_with_runs: Path, whole: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(whole / "checkpoints/last", tmp_path / "source"))
    words = (f"hydra.run.dir={tmp_path}/run", "initialization.path_to_checkpoint=source")
    line = (sys.executable, str(checkout_with_runs / "src/main.py"), *LINE, *words)
    stopped = in_folder(tmp_path, *line, fault="epoch.saved:1:term")
    assert stopped.returncode == 143 and "./scripts/resume.sh goes on from there" in stopped.stderr, (
        stopped.stderr
    )
    before = json.loads((whole / "checkpoints/last/manifest.json").read_text())["sha256"]["agent.safetensors"]
    shutil.rmtree(source)
    finished = in_folder(tmp_path / "run", "./scripts/resume.sh")
    assert finished.returncode == 0, finished.stderr
    provenance = json.loads((tmp_path / "run/checkpoints/last/provenance.json").read_text())
    assert provenance["inputs"] == {str(source / "agent.safetensors"): before}
    assert provenance["commit"], "the commit of the checkout that the code was copied from"


def test_a_folder_in_which_a_run_is_takes_no_second_one(checkout_with_runs: Path, whole: Path) -> None:
    before = snapshot(whole)
    result = run(checkout_with_runs, *launch(checkout_with_runs, "hydra.run.dir=whole"))
    assert result.returncode == 2 and "scripts/resume.sh" in result.stderr
    assert snapshot(whole) == before


def test_scripts_outside_of_a_run_folder_say_so(checkout_with_runs: Path) -> None:
    for command in (("scripts/resume.sh",), (sys.executable, "scripts/eval.py")):
        result = in_folder(checkout_with_runs, *command)
        assert result.returncode == 2 and "no run folder" in result.stderr


def test_a_run_without_checkpoints_and_media_has_only_what_is_left(checkout_with_runs: Path) -> None:
    folder = checkout_with_runs / "bare"
    words = (
        "common.do_checkpoint=false",
        "collection.train.num_episodes_to_save=0",
        "collection.test.num_episodes_to_save=0",
        "evaluation.actor_critic.num_episodes_to_save=0",
        "evaluation.tokenizer.save_reconstructions=false",
        "datasets.train.name=mine",
        "common.epochs=1",
    )
    run(checkout_with_runs, *launch(checkout_with_runs, f"hydra.run.dir={folder}", *words), check=True)
    assert not [path for path in (folder / "media").rglob("*") if path.is_file()]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "last",
        "resume",
        "LOCK",
        "starts.log",
    }
    (row,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert "mine/num_steps" in row and not [name for name in row if name.startswith("train_dataset")]
