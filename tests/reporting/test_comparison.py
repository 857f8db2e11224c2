"""`irisflow compare`: sources read alike, names kept apart, faults refused, and the report that comes out."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
from pypdf import PdfReader

from irisflow.cli import main
from irisflow.errors import ConfigError, DataError
from irisflow.reporting.latex import escaped
from irisflow.statistics.comparison import compared
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.statistics.reference import PUBLISHED, reference
from irisflow.statistics.scores import Run
from irisflow.statistics.sources import read_source
from irisflow.statistics.summary import summarise

STRANGE = "a_b,<script>&%$"
STUDY = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=2)


def table_of(path: Path, *rows: tuple[object, ...], header: str = "variant,game,seed,score") -> Path:
    """Write a score file."""
    lines = [header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def study_folder(folder: Path, rows: list[EpisodeScore]) -> Path:
    """Write what the folder of score files of a study holds."""
    folder.mkdir()
    (folder / "scores.csv").write_text(to_csv(rows))
    return folder


def test_the_published_file_gives_the_published_numbers_and_leaves_out_means_of_runs() -> None:
    source = read_source(PUBLISHED)
    assert {"SPR", "BBF", "STORM-paper"} < set(source.skipped) and "IRIS" not in source.skipped
    found = compared([source], baseline="IRIS", reps=20)
    told = summarise(found.study, [], [], [], [], from_elsewhere=found.means)
    assert round(told["aggregates"]["IRIS"]["iqm"]["value"], 3) == 0.501
    assert round(told["aggregates"]["Simulus"]["mean"]["value"], 3) == 1.645
    assert told["coverage"]["is_complete"] and told["coverage"]["num_present"] == 8 * 26 * 5
    assert told["comparisons"]["SimPLe"]["verdict"] == "worse"
    assert "not known here" in " ".join(caveat["text"] for caveat in told["caveats"])


@pytest.mark.parametrize(
    "name", ["summary.json", "summary.pdf", "summary.html", "provenance.json", "metrics.json", "."]
)
def test_a_report_is_no_source_and_the_line_names_the_folder_of_its_study(name: str, tmp_path: Path) -> None:
    told = {"study": {"name": "backbones", "scale": "quick"}}
    (tmp_path / "summary.json").write_text(json.dumps(told))
    for other in ("summary.pdf", "summary.html", "provenance.json", "metrics.json"):
        (tmp_path / other).write_bytes(b"a report")
    place = tmp_path / name
    with pytest.raises(ConfigError) as error:
        read_source(place)
    wanted = "its study's folder, results/quick/studies/backbones, or the scores.csv in it"
    assert str(error.value) == (
        f"compare: {place} is a report, which the scores are not read from. Name {wanted}."
    )
    told["study"]["name"] = "compare"
    (tmp_path / "summary.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="Name the sources that it compared"):
        read_source(place)


def test_a_summary_beside_scores_names_its_own_folder_and_a_report_alone_what_is_wanted(
    tmp_path: Path,
) -> None:
    (tmp_path / "summary.pdf").write_bytes(b"a report")
    with pytest.raises(ConfigError, match="its study's folder, results/SCALE/studies/NAME, or"):
        read_source(tmp_path / "summary.pdf")
    (tmp_path / "scores.csv").write_text("scores")
    (tmp_path / "summary.json").write_text(json.dumps({"study": {"name": "x", "scale": "quick"}}))
    with pytest.raises(
        ConfigError, match=re.escape(f"its study's folder, {tmp_path}, or the scores.csv in it")
    ):
        read_source(tmp_path / "summary.json")


def test_a_file_of_scores_may_be_called_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"Pong": [1.0, 2.0]}))
    assert len(read_source(path).runs) == 2


def test_every_run_counts_where_variants_have_other_numbers_of_runs(tmp_path: Path) -> None:
    own = table_of(tmp_path / "own.csv", *(("mine", "Breakout", seed, 100 + seed) for seed in range(3)))
    other = tmp_path / "theirs.json"
    other.write_text(json.dumps({"BreakoutNoFrameskip-v4": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    found = compared([read_source(own), read_source(other)], reps=50)
    told = summarise(found.study, [], [], [], [], from_elsewhere=found.means)
    assert found.study.baseline == "mine"
    assert told["block"]["runs"] == {"mine": [0, 1, 2], "theirs": [0, 1, 2, 3, 4]}
    record = told["comparisons"]["theirs"]
    assert record["improvement"]["value"] == 0 and record["p"] == pytest.approx(2 / 56)
    assert told["coverage"]["is_complete"] and not told["protocol"]


def test_a_run_that_is_not_there_is_missing_and_games_are_those_of_the_first(tmp_path: Path) -> None:
    rows = [("mine", game, seed, 1) for game in ("Pong", "Breakout") for seed in (0, 1)]
    one = table_of(tmp_path / "one.csv", *rows)
    two = table_of(tmp_path / "two.csv", ("other", "Pong", 0, 1), ("other", "Krull", 0, 1))
    found = compared([read_source(one), read_source(two)], reps=5)
    told = summarise(found.study, [], [], [], [], from_elsewhere=found.means)
    assert told["coverage"]["missing"] == [["other", "Breakout", 0]]
    assert told["block"]["games"] == ["Pong"] and told["study"]["games"] == ["Breakout", "Pong"]
    assert compared([read_source(one), read_source(two)], games=["Krull"], baseline="other").means == {
        Run("other", "Krull", 0): 1.0
    }


def test_a_run_that_two_studies_share_is_one_run_and_another_of_its_name_gets_a_label(tmp_path: Path) -> None:
    rows = synthetic.episodes_of(STUDY, num_evaluations=1)
    both = [study_folder(tmp_path / name, rows) for name in ("first", "again")]
    found = compared([read_source(folder) for folder in both])
    assert (
        found.study.baseline == "iris"
        and len(found.study.variants) == 2
        and sorted(found.episodes) == sorted(rows)
    )
    changed = [
        row._replace(return_raw=row.return_raw + 1) if (row.variant, row.game) == ("fsq", "Breakout") else row
        for row in rows
    ]
    other = study_folder(tmp_path / "changed", changed)
    found = compared([read_source(both[0]), read_source(other)])
    assert set(found.study.variant_names) == {"iris", "first: fsq", "changed: fsq"}
    named = [read_source(both[0], label="same"), read_source(other, label="same")]
    with pytest.raises(ConfigError, match=r"fsq is in sources with one label .* LABEL=PATH"):
        compared(named)


def test_what_was_not_played_alike_is_refused_or_stamped(tmp_path: Path) -> None:
    rows = synthetic.episodes_of(STUDY, num_evaluations=1)
    hot = [
        row._replace(variant=f"hot_{row.variant}", temperature=1.0, run_id=f"hot {row.run_id}")
        for row in rows
    ]
    sources = [read_source(study_folder(tmp_path / name, found)) for name, found in (("a", rows), ("b", hot))]
    with pytest.raises(
        DataError, match=r"Breakout was not played alike: temperature is 0.5 for .* and 1.0 for hot_"
    ):
        compared(sources)
    assert compared(sources, allow_mixed=True).study.stamp.startswith("MIXED PROTOCOLS")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "Pong", 0, 30)], "row 2, column score: found 30, allowed: -21 to 21 in Pong"),
        ([("a", "Pong", 0, 1), ("a", "Pong", 1, "nan")], "row 3, column score: found 'nan', allowed: a finite"),
        ([("a", "Pong", 0, 1), ("a", "PongNoFrameskip-v4", 0, 2)], "row 3: a/Pong/0 has a score already .*row 2"),
        ([("a", "Ponk", 0, 1)], "row 2, column game: found 'Ponk'; nearest: Pong"),
        ([("a", "Pong", -1, 1)], "row 2, column seed: found '-1', allowed: a whole number"),
        ([("", "Pong", 0, 1)], "row 2, column variant: found ''"),
        ([("a\x07b", "Pong", 0, 1)], "row 2, column variant: .*can be printed"),
        ([("a", "Pong", 0)], "row 2: found 3 cells, allowed: 4"),
        ([], "found no run with a score"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_row_and_column_and_nothing_is_written(
    rows: list[tuple[object, ...]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table_of(tmp_path / "scores.csv", *rows)
    with pytest.raises(DataError, match=message):
        read_source(path)
    assert main(["compare", str(path), "--output", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().err.strip()
    assert told.startswith(f"irisflow: {path}") and "\n" not in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "key .*: found no object"),
        ('{"Pong": 3}', "key Pong: found 3, allowed: a list of scores"),
        ('{"Pong": [1, "x"]}', "key Pong, number 2, column score: found 'x'"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_json_file_of_another_shape_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_source(tmp_path / "x.json")


def test_what_is_no_source_is_refused_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "run/config").mkdir(parents=True)
    (tmp_path / "run/config/trainer.yaml").write_text("variant: {name: iris}\n")
    wrong = table_of(tmp_path / "wrong.csv", header="variant,game,seed,skore")
    for place, message in (
        (tmp_path / "none", "does not exist. Allowed: a study's folder"),
        (tmp_path / "empty", "has no scores.csv in or under it"),
        (tmp_path / "run", "has no evaluation/last.json. Evaluate it first"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_source(place)
    with pytest.raises(DataError, match="found the columns variant,game,seed,skore; nearest: score"):
        read_source(wrong)


def test_a_run_folder_gives_its_last_evaluation(tmp_path: Path) -> None:
    for part in ("config", "evaluation"):
        (tmp_path / part).mkdir()
    (tmp_path / "config/trainer.yaml").write_text("variant: {name: fsq}\n")
    (tmp_path / "evaluation/last.json").write_text(json.dumps({"game": "Pong", "seed": 3, "mean": -20.5}))
    assert read_source(tmp_path).means == {Run("fsq", "Pong", 3): -20.5}
    (tmp_path / "evaluation/last.json").write_text(json.dumps({"game": "Pong", "seed": 3, "mean": 30}))
    with pytest.raises(DataError, match="column score: found 30, allowed: -21 to 21 in Pong"):
        read_source(tmp_path)


@pytest.mark.slow
def test_the_command_writes_a_report_in_which_a_strange_name_is_only_a_name(tmp_path: Path) -> None:
    own = table_of(
        tmp_path / "own.csv",
        *(
            (name, game, seed, 10 + 5 * seed)
            for name in ("base", STRANGE)
            for game in ("Pong", "Alien")
            for seed in (0, 1)
        ),
    )
    output = tmp_path / "out"
    told = subprocess.run(
        ["python", "-m", "irisflow", "compare", str(own), str(PUBLISHED), "--baseline", "IRIS", "--output", str(output)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "published: only means over runs of BBF" in told.stderr
    text = "\n".join(page.extract_text() for page in PdfReader(output / "summary.pdf").pages).replace(
        "\u200b", ""
    )
    assert STRANGE in text and "COMPARISON of several sources" in text
    assert "<script>&%" not in (output / "summary.html").read_text(encoding="utf-8")
    tex = (output / "tables/T1.tex").read_text(encoding="utf-8")
    assert escaped(STRANGE) in tex and r"a\_b,\textless{}script\textgreater{}\&\%\$" in tex
    assert tex.count("{") == tex.count("}") and r"\toprule" in tex


def simulated(rng: np.random.Generator, *, shift: float = 0.0) -> dict[Run, float]:
    """Return scores of three arms of 3 games x 4 seeds, alike but for what the last one gains in normalised score."""
    scores = {}
    for game in ("Alien", "Hero", "Krull"):
        scale = reference(game)
        assert scale is not None
        for variant in ("iris", "fsq", "parallel"):
            gain = shift if variant == "parallel" else 0.0
            for seed in range(4):
                level = rng.lognormal(-1, 0.6) + gain
                scores[Run(variant, game, seed)] = scale.random + level * (scale.best - scale.random)
    return scores


def test_of_200_reports_of_identical_arms_at_most_7_percent_have_a_winner_and_a_planted_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("seeds_for_power", "published_baselines"):  # take most of the time and decide nothing
        monkeypatch.setattr(f"irisflow.statistics.summary.{name}", lambda *_, **__: {})
    study = replace(
        synthetic.study(games=("Alien", "Hero", "Krull"), num_variants=3, num_seeds=4), bootstrap_reps=2
    )
    rng = np.random.default_rng(0)
    reports = [summarise(study, [], [], [], [], from_elsewhere=simulated(rng)) for _ in range(200)]
    wrong = [
        any(record["verdict"] in ("better", "worse") for record in report["comparisons"].values())
        for report in reports
    ]
    assert 0 < sum(wrong) <= 14
    planted = summarise(study, [], [], [], [], from_elsewhere=simulated(rng, shift=0.5))
    assert planted["comparisons"]["parallel"]["verdict"] == "better"
    assert planted["comparisons"]["fsq"]["verdict"] == "not separated"
