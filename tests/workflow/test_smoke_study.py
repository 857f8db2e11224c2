"""What a finished study leaves: a report, artefacts that vouch for themselves, and costs that add up."""

import csv
import json
import zipfile
from pathlib import Path

import pytest
import yaml
from pypdf import PdfReader

from irisflow import params, paths
from irisflow.params import Choice
from irisflow.storage import MANIFEST, open_artefact
from workspace import REPORT, git, snakemake

pytestmark = pytest.mark.slow
GAMES, VARIANTS = ("Catch", "Pong"), ("iris", "iris_pretrained")
RUNS = [(variant, game) for variant in VARIANTS for game in GAMES]


def test_the_report_has_pages_with_the_study_and_its_budget(smoke_run: Path) -> None:
    pages = [page.extract_text() for page in PdfReader(smoke_run / "reports/summary.pdf").pages]
    assert len(pages) >= 3
    assert all("smoke" in page for page in pages)
    assert all(game in "".join(pages) for game in GAMES)


def test_the_summary_names_every_game_and_variant(smoke_run: Path) -> None:
    summary = json.loads((smoke_run / "reports/summary.json").read_text())
    assert summary["study"]["games"] == list(GAMES)
    assert [variant["name"] for variant in summary["study"]["variants"]] == list(VARIANTS)


def test_the_summary_has_the_losses_of_every_part_that_was_trained(smoke_run: Path) -> None:
    losses = json.loads((smoke_run / "reports/summary.json").read_text())["training"]
    assert set(losses) == {"actor critic", "tokenizer", "world model"}
    for runs in losses.values():
        assert set(runs) == set(VARIANTS)
        assert all(set(found) == {f"{game}, seed 0" for game in GAMES} for found in runs.values())
    assert [step for step, _ in losses["tokenizer"]["iris"]["Pong, seed 0"]] == [32, 64]


def test_every_artefact_is_what_its_manifest_says(smoke_run: Path) -> None:
    manifests = sorted((smoke_run / "results").rglob(MANIFEST))
    # tokenizers, world models, agents, scores, held-out episodes, measurements, the study
    assert len(manifests) >= 2 + 2 + 4 + 4 + 2 + 4 + 1
    for manifest in manifests:
        content = json.loads(manifest.read_text())
        artefact = open_artefact(manifest.parent, kind=content["kind"])
        assert all(artefact.read(name) for name in content["sha256"])
        assert {path.name for path in manifest.parent.iterdir()} == {*content["sha256"], MANIFEST}


@pytest.mark.parametrize(("variant", "game"), RUNS)
def test_the_parameters_lie_beside_every_agent(smoke_run: Path, variant: str, game: str) -> None:
    beside = yaml.safe_load((smoke_run / paths.agent("smoke", variant, game, 0) / "params.yaml").read_text())
    settings = params.compose(Choice("smoke", variant=variant, overrides=(f"env.train.id={game}",)))
    assert beside["env"]["train"]["id"] == game
    assert beside["training"]["actor_critic"]["gamma"] == settings.training.actor_critic.gamma
    assert beside["variant"]["name"] == variant
    assert "final" not in beside["evaluation"], "the slice of train_agent has no final evaluation"


@pytest.mark.parametrize(("variant", "game"), RUNS)
def test_steps_of_the_recording_are_counted_where_a_variant_stands_on_it(
    smoke_run: Path, variant: str, game: str
) -> None:
    with (smoke_run / paths.scores("smoke", variant, game, 0) / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    recorded = 64 if variant == "iris_pretrained" else 0
    assert len(rows) == 3
    assert {(int(row["pretraining_env_steps"]), int(row["env_step"])) for row in rows} == {
        (recorded, 64 + recorded)
    }


def test_pretrained_agents_do_not_start_where_scratch_ones_do(smoke_run: Path) -> None:
    provenance = [
        json.loads((smoke_run / paths.agent("smoke", variant, "Pong", 0) / "provenance.json").read_text())
        for variant in VARIANTS
    ]
    assert [len(record["inputs"]) for record in provenance] == [0, 2]


def test_all_world_models_of_a_game_are_measured_from_before_training_on_on_the_same_held_out_episodes(
    smoke_run: Path,
) -> None:
    for game in GAMES:
        folder = paths.held_out("smoke", "iris", game, 0)
        used = set()
        for variant in VARIANTS:
            beside = smoke_run / paths.world_model_quality("smoke", variant, game, 0) / "provenance.json"
            used.add(json.loads(beside.read_text())["inputs"][str(folder / paths.EPISODES)])
        assert len(used) == 1
    with (smoke_run / paths.study("smoke", "smoke") / "world_model.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["variant"], row["game"]) for row in rows} == set(RUNS)
    steps = {variant: {int(r["env_step"]) for r in rows if r["variant"] == variant} for variant in VARIANTS}
    assert steps == {"iris": {0, 32, 64}, "iris_pretrained": {64, 96, 128}}


def test_nothing_is_left_to_resume(smoke_run: Path) -> None:
    assert not list((smoke_run / "resume").glob("*"))


def test_git_sees_no_artefact(smoke_run: Path) -> None:
    assert git(smoke_run, "status", "--porcelain") == ""


def test_snakemake_packs_the_report_by_category_with_captions(finished: Path) -> None:
    """As the README says it: without `--cores`, since no job runs."""
    snakemake(finished, REPORT, "--report", "packed.zip", check=True)
    with zipfile.ZipFile(finished / "packed.zip") as packed:
        names = {Path(name).name for name in packed.namelist()}
        page = packed.read("packed/report.html").decode()
    assert {"summary.pdf", "summary.html", "F1.svg"} <= names
    assert '"Figures"' in page and '"The report"' in page
    assert "docs/report.md" in page, "the caption of the figures"
