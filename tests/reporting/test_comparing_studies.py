"""A comparison of studies tells of their runs what the studies' own reports tell, of each run once, and mixes nothing."""

import json
import shutil
from collections.abc import Callable
from os.path import normpath
from pathlib import Path
from typing import Any

import pytest

from irisflow import paths
from irisflow.errors import DamageError
from irisflow.statistics.comparison import Comparison, compared
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.statistics.scores import read_scores
from irisflow.statistics.sources import read_source
from irisflow.storage import compact_json, json_bytes, open_artefact, publish, sha256_of
from workspace import irisflow

pytestmark = pytest.mark.slow
STUDY = paths.study("smoke", "smoke")
AGAIN = paths.study("smoke", "again")
OWN = {
    "stage": "compare", "digest": "", "commit": "c", "branch": "b", "dirty": False, "versions": {}, "hardware": {},
    "computing": {}, "seeds": {}, "inputs": {}, "command": "compare",
}  # fmt: skip
# Sections that a comparison of one study with itself has in common with the study's own summary.
SAME = (
    "coverage", "block", "protocol", "aggregates", "published", "num_superhuman", "comparisons", "random_play",
    "improvement_matrix", "profiles", "ranks", "power", "curves", "efficiency", "games", "world_model",
    "prediction_and_score", "interactions", "training", "cost", "num_from_elsewhere", "remarks",
)  # fmt: skip
Told = dict[str, Any]


@pytest.fixture
def workspace_of_smoke(smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished study, as the working directory. Nothing may be written into it."""
    monkeypatch.chdir(smoke_run)
    return smoke_run


@pytest.fixture
def changed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study to change, as the working directory."""
    monkeypatch.chdir(finished)
    return finished


def told(*sources: Path | str, **options: Any) -> Told:
    """Return what a comparison's `summary.json` holds."""
    return json.loads(compact_json(comparison(*sources, **options).summarise(OWN)))


def comparison(*sources: Path | str, **options: Any) -> Comparison:
    """Return the comparison of studies and score files."""
    return compared([read_source(Path(source)) for source in sources], **options)


def own_summary() -> Told:
    """Return the study's own numbers."""
    return json.loads((STUDY / "summary.json").read_text())


def made_again(name: Path = AGAIN, *, scores: Callable[[EpisodeScore], EpisodeScore] | None = None) -> Path:
    """Return another study of the same runs, whose scores may be others."""
    kept = {file: (STUDY / file).read_bytes() for file in open_artefact(STUDY, kind="study").sha256}
    if scores is not None:
        kept["scores.csv"] = to_csv(map(scores, read_scores([STUDY / "scores.csv"]))).encode()
    publish(name, kept, kind="study", digest="again", about={"study": name.name, "scale": "smoke"})
    return name


def with_higher_pong(row: EpisodeScore) -> EpisodeScore:
    """Return another score of the variant that starts pretrained."""
    is_other = (row.variant, row.game) == ("iris_pretrained", "Pong")
    return row._replace(return_raw=row.return_raw + 1) if is_other else row


def table_of(path: Path) -> Path:
    """Write a score file of somebody else's variant."""
    path.write_text("variant,game,seed,score\ntheirs,Catch,0,1\ntheirs,Pong,0,-20\n")
    return path


def rows_of(summary: Told, *path: str, variant: str) -> list[Told]:
    """Return the records of one variant in a list of the summary, without its name."""
    found: Any = summary
    for key in path:
        found = found[key]
    return [{**row, "variant": ""} for row in found if row["variant"] == variant]


@pytest.mark.usefixtures("workspace_of_smoke")
def test_a_study_tells_the_same_numbers_as_its_own_report() -> None:
    found, own = told(STUDY), own_summary()
    assert own["world_model"]["scalars"] and own["cost"]["rows"] and own["training"] and own["cost"]["phases"]
    assert [key for key in SAME if found[key] != own[key]] == []
    changes = {variant["name"]: variant["changes"] for variant in own["study"]["variants"]}
    assert {variant["name"]: variant["changes"] for variant in found["study"]["variants"]} == changes
    assert changes["iris_pretrained"] and found["study"]["configuration"] == own["study"]["configuration"]
    assert found["provenance"]["num_jobs"] == own["provenance"]["num_jobs"] + 1
    assert found["provenance"]["inputs"].items() >= own["provenance"]["inputs"].items()


@pytest.mark.usefixtures("workspace_of_smoke")
def test_runs_lead_to_their_folders_from_wherever_the_report_lies() -> None:
    report = Path("reports/compare")
    found = comparison(STUDY).folders(report)
    assert len(found) == len(own_summary()["coverage"]["cells"]) * 2
    for (variant, game, seed), folder in found.items():
        assert Path(normpath(report / folder)) == paths.agent("smoke", variant, game, seed)


@pytest.mark.usefixtures("changed")
def test_a_run_and_a_job_that_two_studies_share_count_once() -> None:
    found, own = told(STUDY, made_again()), own_summary()
    assert [key for key in SAME if found[key] != own[key]] == []
    assert found["provenance"]["num_jobs"] == own["provenance"]["num_jobs"] + 1


@pytest.mark.usefixtures("workspace_of_smoke")
def test_what_is_not_known_of_a_score_file_is_not_there_and_is_said(tmp_path: Path) -> None:
    found, own = told(STUDY, table_of(tmp_path / "theirs.csv")), own_summary()
    assert found["cost"]["rows"] == own["cost"]["rows"] and found["cost"]["phases"] == own["cost"]["phases"]
    assert found["world_model"] == own["world_model"] and found["training"] == own["training"]
    assert "theirs" not in found["cost"]["wall_s_by_variant"]
    assert found["remarks"] == [
        {
            "level": "note",
            "text": "Only the scores of theirs are known here: costs, losses, pictures and world models are those of the"
            " others.",
        }
    ]
    assert found["remarks"][0] in found["caveats"]


@pytest.mark.usefixtures("workspace_of_smoke")
def test_only_what_the_chosen_games_stand_on_counts() -> None:
    found = comparison(STUDY, games=["Pong"])
    assert {job.cost["game"] for job in found.records.jobs} == {"Pong"}
    kinds = [job.cost["stage"] for job in found.records.jobs]
    assert kinds.count("collect") == 1 and kinds.count("train_agent") == 2
    assert set(found.records.world_model["game"]) == {"Pong"}
    assert {run.game for run in found.records.each("film")} == {"Pong"}


@pytest.mark.usefixtures("changed")
def test_a_variant_that_gets_its_sources_label_has_it_everywhere() -> None:
    found, own = told(STUDY, made_again(scores=with_higher_pong)), own_summary()
    names = ("smoke: iris_pretrained", "again: iris_pretrained")
    assert [variant["name"] for variant in found["study"]["variants"]] == ["iris", *names]
    before = {variant["name"]: variant for variant in own["study"]["variants"]}["iris_pretrained"]["changes"]
    for name in names:
        for path in (
            ("cost", "rows"),
            ("cost", "phases"),
            ("world_model", "scalars"),
            ("world_model", "curves"),
        ):
            assert rows_of(found, *path, variant=name) == rows_of(own, *path, variant="iris_pretrained")
        assert found["training"]["tokenizer"][name] == own["training"]["tokenizer"]["iris_pretrained"]
        assert {variant["name"]: variant for variant in found["study"]["variants"]}[name]["changes"] == before
    assert rows_of(found, "cost", "rows", variant="shared") == rows_of(own, "cost", "rows", variant="shared")
    assert found["cost"]["wall_s_by_variant"]["iris"] == own["cost"]["wall_s_by_variant"]["iris"]
    pictures = comparison(STUDY, AGAIN).records
    runs = {(run.variant, run.game) for run in pictures.each("film")}
    assert runs == {(name, game) for name in ("iris", *names) for game in ("Catch", "Pong")}
    assert runs == {(run.variant, run.game) for run in pictures.each("reconstructions")}


@pytest.mark.usefixtures("changed")
def test_another_baseline_turns_what_a_configuration_changes_around() -> None:
    found, own = told(STUDY, baseline="iris_pretrained"), own_summary()
    changes = {variant["name"]: variant["changes"] for variant in found["study"]["variants"]}
    before = {variant["name"]: variant["changes"] for variant in own["study"]["variants"]}["iris_pretrained"]
    assert changes == {
        "iris_pretrained": [],
        "iris": [[key, there, here] for key, here, there in before],
    }
    assert found["world_model"] == own["world_model"]


def elsewhere(folder: Path, *, measured_on: str | None = None) -> Path:
    """Return the study in a checkout of its own, with another score, its world models measured on other episodes."""
    shutil.copytree(paths.RESULTS, folder / paths.RESULTS)
    shutil.copytree(paths.DATA, folder / paths.DATA)
    study = made_again(folder / paths.study("smoke", "elsewhere"), scores=with_higher_pong)
    if measured_on is None:
        return study
    noted = json.loads((study / "provenance.json").read_text())
    for name in [name for name in noted["inputs"] if "world_model_quality" in name and "provenance" in name]:
        quality = (folder / name).parent
        artefact = open_artefact(quality, kind="world_model_quality")
        source = json.loads((folder / name).read_text())
        source["inputs"] = {
            key: measured_on if key.endswith(paths.EPISODES) else sha for key, sha in source["inputs"].items()
        }
        files = {file: (quality / file).read_bytes() for file in artefact.sha256}
        files["provenance.json"] = json_bytes(source)
        publish(quality, files, kind=artefact.kind, digest=artefact.digest, about=artefact.about)
        noted["inputs"][name] = sha256_of(folder / name)
    files = {file: (study / file).read_bytes() for file in open_artefact(study, kind="study").sha256}
    files["provenance.json"] = json_bytes(noted)
    publish(study, files, kind="study", digest="elsewhere", about={"study": "elsewhere", "scale": "smoke"})
    return study


@pytest.mark.usefixtures("workspace_of_smoke")
def test_a_study_of_another_checkout_brings_its_records(tmp_path: Path) -> None:
    found, own = told(STUDY, elsewhere(tmp_path)), own_summary()
    name = "elsewhere: iris_pretrained"
    assert found["remarks"] == []
    assert rows_of(found, "cost", "rows", variant=name) == rows_of(
        own, "cost", "rows", variant="iris_pretrained"
    )
    assert rows_of(found, "world_model", "curves", variant=name)
    assert any(name.startswith(str(tmp_path)) for name in found["provenance"]["inputs"])


@pytest.mark.usefixtures("workspace_of_smoke")
def test_world_models_that_were_measured_on_other_episodes_are_left_out_and_named(tmp_path: Path) -> None:
    other = elsewhere(tmp_path, measured_on="ab" * 32)
    found, own = told(STUDY, other), own_summary()
    name = "elsewhere: iris_pretrained"
    assert not rows_of(found, "world_model", "scalars", variant=name)
    assert name not in {record["variant"] for record in found["world_model"]["confusion"]}
    assert name not in {run["variant"] for run in found["prediction_and_score"]["runs"]}
    assert rows_of(found, "cost", "rows", variant=name)
    assert rows_of(found, "world_model", "scalars", variant="iris") == rows_of(
        own, "world_model", "scalars", variant="iris"
    )
    (remark,) = found["remarks"]
    assert remark["text"].startswith(
        f"elsewhere: its world models ({name}; Catch, Pong) were measured on other"
    )
    turned = told(STUDY, other, baseline=name)
    assert not rows_of(turned, "world_model", "scalars", variant="smoke: iris_pretrained")
    assert rows_of(turned, "world_model", "scalars", variant=name)


@pytest.mark.usefixtures("changed")
def test_records_that_are_gone_or_of_a_later_run_are_not_shown_and_that_is_said() -> None:
    own = own_summary()
    shutil.rmtree(paths.agent("smoke", "iris", "Pong", 0))
    quality = paths.world_model_quality("smoke", "iris", "Catch", 0)
    artefact = open_artefact(quality, kind="world_model_quality")
    files = {file: (quality / file).read_bytes() for file in artefact.sha256}
    files["confusion.json"] += b"\n"
    publish(quality, files, kind=artefact.kind, digest=artefact.digest, about=artefact.about)
    found = told(STUDY)
    assert [remark["text"] for remark in found["remarks"]] == [
        f"smoke: what 2 of its {own['provenance']['num_jobs']} jobs wrote down is gone, or is that of later jobs, and is not"
        " shown.",
        "Costs and losses of 1 of the 2 runs of iris are not known: its wall-clock is that of the rest.",
        "Means of world models are over the games in which all were measured (Pong).",
    ]
    assert set(found["training"]["tokenizer"]["iris"]) == {"Catch, seed 0"}
    measured = {(row["variant"], row["game"]) for row in found["world_model"]["scalars"]}
    assert measured == {("iris", "Pong"), ("iris_pretrained", "Catch"), ("iris_pretrained", "Pong")}
    assert found["aggregates"] == own["aggregates"]


@pytest.mark.usefixtures("workspace_of_smoke")
def test_a_study_that_lies_elsewhere_has_its_scores_and_configurations_only(tmp_path: Path) -> None:
    shutil.copytree(STUDY, tmp_path / "copied")
    found, own = told(tmp_path / "copied"), own_summary()
    (remark,) = found["remarks"]
    assert remark["text"].startswith("copied: it does not lie at results/SCALE/studies/NAME")
    assert not found["cost"]["rows"] and not found["world_model"] and not found["training"]
    assert found["aggregates"] == own["aggregates"]
    assert found["study"]["variants"] == own["study"]["variants"]


@pytest.mark.usefixtures("changed")
def test_a_damaged_record_is_an_error() -> None:
    file = paths.agent("smoke", "iris", "Pong", 0) / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DamageError, match=r"metrics.jsonl is damaged"):
        read_source(STUDY)


def test_the_command_draws_the_same_pages_for_the_study(finished: Path, tmp_path: Path) -> None:
    table_of(finished / "theirs.csv")
    irisflow(finished, "compare", "smoke", "theirs.csv", check=True)
    made, own = finished / "reports/compare", finished / "reports"
    names = {file.name for file in (own / "figures").iterdir() if not file.name.startswith(".")}
    assert {"F9-001.png", "F10.svg", "F11.svg", "F13.svg", "F15-001.png", "F17.svg", "F22.svg"} <= names
    found = {file.name for file in (made / "figures").iterdir()}
    assert {name for name in names - found if not name.startswith(("F9-", "F14", "F15-"))} == set()
    for name in ("F10.csv", "F11.csv", "F13.csv", "F17.csv"):
        assert (made / "figures" / name).read_text() == (own / "figures" / name).read_text()
    pictures = [json.loads((place / "summary.json").read_text())["reconstructions"] for place in (made, own)]
    assert pictures[0] == pictures[1]
