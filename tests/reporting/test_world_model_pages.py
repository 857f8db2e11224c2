"""The world models' measurements: read and checked, averaged over seeds, and told with their numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from PIL import Image
from safetensors.numpy import save_file

from irisflow.errors import DataError
from irisflow.reporting import quality_findings
from irisflow.reporting.document import build_report
from irisflow.reporting.drawing import save
from irisflow.reporting.films import Film, film_picture, read_films, times_shown
from irisflow.reporting.held_out import first_seeds, held_out_frames, worst_and_middle
from irisflow.reporting.interactive import interactive_svg
from irisflow.reporting.quality import Quality, quality_of
from irisflow.reporting.quality_figures import draw_quality
from irisflow.reporting.quality_tables import quality_tables
from irisflow.reporting.style import DASH, Summary, looks
from irisflow.statistics.quality_intervals import interval_records
from irisflow.statistics.scores import Run
from irisflow.statistics.stretches import stretches_in
from irisflow.statistics.study import StudyDescription
from irisflow.statistics.summary import summarise
from irisflow.statistics.world_model import (
    COLUMNS,
    HEADER,
    Measured,
    _read_at_once,
    _read_row_by_row,
    join_csv,
    read_confusion,
    read_told,
    read_world_model,
    table,
    world_model_summary,
)

STUDY = synthetic.study(games=("Pong", "Breakout"), num_variants=2, num_seeds=3)


def measured(**columns: object) -> Measured:
    """Return a PSNR of 30 dB, changed."""
    row = Measured("iris", "Pong", 0, 1000, "psnr", "", None, None, None, 30.0, 10)
    return row._replace(**columns)


def write(path: Path, rows: list[Measured]) -> Path:
    """Write measurements as the stage does."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    path.write_text("\n".join(",".join(row) for row in [COLUMNS, *cells]) + "\n")
    return path


def summary_of(rows: list[Measured], study: StudyDescription = STUDY) -> Summary:
    """Return a summary with these rows."""
    episodes = synthetic.episodes_of(study, num_evaluations=1)
    return summarise(replace(study, bootstrap_reps=1), episodes, [], [], [], world_model=table(rows))


def with_intervals(study: StudyDescription, *, num_stretches: int = 8, num_episodes: int = 3) -> Summary:
    """Return a summary of a synthetic study whose runs have sums over stretches."""
    found = {
        run: stretches_in(tensors, Path("made up"))
        for run, tensors in synthetic.stretches_of(
            study, num_stretches=num_stretches, num_episodes=num_episodes
        ).items()
    }
    several = replace(study, bootstrap_reps=100)
    episodes = synthetic.episodes_of(study, num_evaluations=1)
    rows = table(synthetic.world_model_of(study))
    intervals = interval_records(several, found)
    return summarise(
        replace(study, bootstrap_reps=1), episodes, [], [], [], world_model=rows, intervals=intervals
    )


def quality(rows: list[Measured]) -> Quality:
    """Return what the report looks up for these rows."""
    return quality_of(summary_of(rows))


def test_rows_survive_the_way_to_a_file_and_back(tmp_path: Path) -> None:
    rows = synthetic.world_model_of(replace(STUDY, seeds=(0,)))
    path = write(tmp_path / "world_model.csv", rows)
    pd.testing.assert_frame_equal(read_world_model([path]), table(rows), check_categorical=False)


def test_files_that_are_joined_read_as_one_and_a_fault_is_found_row_by_row_and_at_once_alike(
    tmp_path: Path,
) -> None:
    rows = synthetic.world_model_of(replace(STUDY, games=("Pong",)))
    of_seed = [[row for row in rows if row.seed == seed] for seed in STUDY.seeds]
    paths = [write(tmp_path / f"{seed}.csv", found) for seed, found in enumerate(of_seed)]
    (tmp_path / "all.csv").write_bytes(join_csv(paths))
    pd.testing.assert_frame_equal(read_world_model([tmp_path / "all.csv"]), read_world_model(paths))
    at_once, one_by_one = _read_at_once(paths), _read_row_by_row(paths)
    assert at_once is not None
    pd.testing.assert_frame_equal(at_once, one_by_one)
    assert _read_at_once([*paths, paths[0]]) is None  # each number twice


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: text.replace("30.0", "nan"),
            "row 2, column value: found 'nan', allowed: a finite number",
        ),
        (lambda text: text.replace(",1000,", ",soon,"), "row 2, column env_step: found 'soon'"),
        (lambda text: text + text.splitlines()[1], "row 3, column metric: .* each number once"),
        (lambda text: text.replace("horizon", "horizont"), "column 'horizont' is unknown.*nearest: horizon"),
        (lambda text: text.replace(",n\n", "\n"), "column 'n' is unknown, missing"),
        (lambda text: text.replace(",10\n", "\n"), "allowed: 11 cells in a row"),
        (lambda text: text.replace(",10\n", ",10,10\n"), "allowed: 11 cells in a row"),
        (lambda text: text.replace("value,n", "n,value"), "the columns are in another order"),
        (lambda text: text.replace(",0,1000", ",0.5,1000"), "column seed: found '0.5'"),
    ],
)
def test_a_damaged_file_is_refused_with_row_and_column(
    tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    path = write(tmp_path / "world_model.csv", [measured()])
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=message) as error:
        read_world_model([path])
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_counts_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "confusion.json"
    path.write_text('{"100": {"reward": [[1, 2], [3, 4]], "end": [[1, 0], [0, 1]]}}')
    with pytest.raises(DataError, match="reward is no 3 x 3 matrix"):
        read_confusion(path)


def test_seeds_are_averaged_and_their_range_is_kept() -> None:
    rows = [measured(seed=seed, value=value) for seed, value in ((0, 30.0), (1, 33.0), (2, 27.0))]
    (scalar,) = world_model_summary(STUDY, table(rows[::-1]), {})["scalars"]
    assert (scalar["mean"], scalar["least"], scalar["greatest"], scalar["num_seeds"]) == (30.0, 27.0, 33.0, 3)
    with pytest.raises(DataError, match="column game: found 'Krull'"):
        world_model_summary(STUDY, table([measured(game="Krull")]), {})


def test_the_confusion_is_that_of_the_finished_agents() -> None:
    early, late = [[9, 0, 0]] * 3, [[1, 2, 3]] * 3
    ends = [[1, 0], [0, 1]]
    counts = {"1000": {"reward": early, "end": ends}, "2000": {"reward": late, "end": ends}}
    rows = [measured(seed=seed, env_step=step) for seed in (0, 1) for step in (1000, 2000)]
    confusions = {Run("iris", "Pong", seed): counts for seed in (0, 1)}
    (record,) = world_model_summary(STUDY, table(rows), confusions)["confusion"]
    assert record["reward"] == [[2, 4, 6]] * 3


def test_titles_tell_the_numbers_first_to_last() -> None:
    rows = [measured(env_step=step, value=value) for step, value in ((0, 12.0), (2000, 31.2))]
    told = quality_findings.tokenizer(quality(rows))
    assert told == "PSNR of the reconstructions after 2,000 steps: iris 31.2 dB (untrained 12.0 dB)."


def test_weights_of_different_age_are_told_with_their_steps() -> None:
    rows = [
        measured(variant=name, env_step=last + step, value=20.0 + step / 1000)
        for name, last in (("iris", 0), ("fsq", 500))
        for step in (0, 2000)
    ]
    assert quality_findings.tokenizer(quality(rows)) == (
        "PSNR of the reconstructions: iris 22.0 dB after 2,000 steps (untrained 20.0 dB),"
        " fsq 22.0 dB after 2,500 steps (after 500 steps 20.0 dB)."
    )


def test_small_objects_are_told_where_there_are_any_and_lpips_only_where_it_was_measured() -> None:
    rows = [measured(), measured(metric="small_object_recall", value=0.125, n=400)]
    assert "Small moving objects drawn: iris 12 %." in quality_findings.tokenizer(quality(rows))
    for found, cells in (
        (rows, ("n/a (weights not available offline)", "12 %", "400")),
        (rows[:1], ("n/a (weights not available offline)", DASH, DASH)),
        ([*rows, measured(metric="lpips", value=0.25, n=64)], ("0.250", "12 %", "400")),
    ):
        block, *_ = quality_tables(summary_of(found))
        titles = [column["title"] for column in block["columns"]]
        (row,) = block["rows"]
        told = dict(zip(titles, row, strict=True))
        assert tuple(told[title] for title in ("LPIPS", "Small objects\ndrawn", "Small\nobjects")) == cells
    drawn, without = draw_quality(summary_of(rows))[0], draw_quality(summary_of(rows[:1]))[0]
    assert {row["metric"] for row in drawn.rows} == {"psnr", "small_object_recall"}
    assert {row["metric"] for row in without.rows} == {"psnr"}


def test_a_mean_over_games_leaves_out_those_without_small_objects() -> None:
    recalls = [
        measured(game=game, metric="small_object_recall", value=value, n=n)
        for game, value, n in (("Pong", 0.5, 30), ("Breakout", 0.25, 10))
    ]
    games = ("Pong", "Breakout", "Alien", "Boxing")
    rows = [*recalls, *(measured(game=game) for game in games)]
    study = replace(STUDY, games=games)
    block, *_ = quality_tables(summary_of(rows, study))
    assert {"38 %", "40"} <= set(map(str, block["rows"][0]))


def test_a_world_model_that_is_worse_than_a_copy_is_said_to_be() -> None:
    ahead = [
        measured(metric=metric, mode=mode, context=1, horizon=horizon, value=value)
        for horizon in (1, 2)
        for metric, mode, value in (
            ("changed_token_accuracy", "greedy", 0.5), ("open_psnr", "greedy", 20.0), ("open_psnr", "copy_last", 22.0),
        )
    ]  # fmt: skip
    found = quality([measured(), *ahead])
    told = quality_findings.dynamics(found, found.places[0], ["iris"])
    assert "nearer than a copy of the last frame at 0 of 2 horizons" in told


def test_a_figures_rows_are_the_summarys_numbers_and_a_variant_without_measurements_is_left_out() -> None:
    rows = [row for row in synthetic.world_model_of(STUDY) if (row.variant, row.game) != ("fsq", "Pong")]
    episodes = synthetic.episodes_of(STUDY, num_evaluations=1)
    summary = summarise(replace(STUDY, bootstrap_reps=1), episodes, [], [], [], world_model=table(rows))
    drawings = {drawing.identifier: drawing for drawing in draw_quality(summary)}
    assert list(drawings) == ["F13", "F14a", "F14b", "F16", "F25"]
    assert {row["variant"] for row in drawings["F14a"].rows} == {"iris"}
    drawn = {
        (row["variant"], row["env_step"], row["mode"], row["horizon"]): row["mean"]
        for row in drawings["F14b"].rows
        if row["metric"] == "open_psnr"
    }
    for record in summary["world_model"]["curves"]:
        kind = (record["game"], record["metric"], record["context"])
        if kind == ("Breakout", "open_psnr", 1) and record["mode"] == "greedy":
            for horizon, mean in zip(record["horizon"], record["mean"], strict=True):
                assert drawn[record["variant"], record["env_step"], "greedy", horizon] == mean


def test_a_band_its_table_and_its_point_have_the_summarys_interval(tmp_path: Path) -> None:
    study = replace(STUDY, games=("Pong",), variants=STUDY.variants[:1])
    summary = with_intervals(study)
    told = {
        (each["metric"], each["mode"], horizon): (low, high, 3, num)
        for each in summary["world_model"]["intervals"]
        for horizon, (low, high, num) in enumerate(
            zip(each["low"], each["high"], each["num_stretches"], strict=True), start=1
        )
    }
    drawn = {drawing.identifier: drawing for drawing in draw_quality(summary)}["F14"]
    cells = ("low", "high", "num_seeds", "num_stretches")
    rows = {
        (row["env_step"], row["metric"], row["mode"], row["horizon"]): tuple(row[cell] for cell in cells)
        for row in drawn.rows
    }
    assert {row[1:]: rows[row] for row in rows if row[0] == 100_000} == {
        key: told[key] for key in told if key[1] and key[0] != "reward_error"
    }
    assert {rows[row] for row in rows if row[0] < 100_000} == {(None,) * 4}, "earlier weights have none"
    assert "Band: 95 % interval over 3 seeds and 8 stretches of the recording (3 episodes)." in drawn.caption
    assert all(len(axes.collections) == 1 for axes in drawn.figure.axes), "a band a panel"
    save(drawn, tmp_path)
    page = interactive_svg(drawn, (tmp_path / "F14.svg").read_text(), looks(summary))
    low, high, *_ = told["open_psnr", "greedy", 1]
    assert f" at 1 [{low:.4g}, {high:.4g}]</title>" in page
    titles = [column["title"] for column in quality_tables(summary)[0]["columns"]]
    (cells_of,) = quality_tables(summary)[0]["rows"]
    low, high, *_ = told["psnr", "", 1]
    assert cells_of[titles.index("PSNR,\ndB")].endswith(f" [{low:.1f}, {high:.1f}]")


def test_a_caption_says_what_an_interval_is_over() -> None:
    one_seed = replace(STUDY, games=("Pong",), seeds=(0,))
    alone = draw_quality(with_intervals(one_seed, num_stretches=4, num_episodes=1))[1].caption
    assert (
        "Band: 95 % interval over 4 stretches of the recording (1 episode) of one run: it says nothing about other seeds."
        in alone
    )
    nothing = draw_quality(with_intervals(one_seed, num_stretches=1))
    assert "Band: no interval" in nothing[1].caption and not nothing[1].figure.axes[0].collections
    games = ("Pong", "Breakout", "Alien", "Hero")
    several = draw_quality(with_intervals(replace(STUDY, games=games)))[1]
    assert "8 stretches of each game's recording (3 episodes), games fixed." in several.caption
    assert all(axes.collections for axes in several.figure.axes)


def test_a_study_without_stretches_has_its_means_and_no_band() -> None:
    drawings = draw_quality(summary_of(synthetic.world_model_of(STUDY)))
    assert all("no interval" in drawing.caption for drawing in drawings if drawing.identifier[:3] == "F14")
    assert {row["low"] for drawing in drawings[:2] for row in drawing.rows} == {None}


def test_the_codebooks_panel_has_the_summarys_numbers_of_the_finished_weights() -> None:
    summary = summary_of(synthetic.world_model_of(STUDY))
    drawn = draw_quality(summary)[0]
    told = {
        (row["place"], row["variant"], row["env_step"], row["num_codes"]): row["mean"]
        for row in drawn.rows
        if row["metric"] == "token_share"
    }
    assert told == {
        (each["game"], each["variant"], each["env_step"], each["class"]): each["mean"]
        for each in summary["world_model"]["scalars"]
        if each["metric"] == "token_share" and each["env_step"] == 100_000
    }
    assert {num_codes for *_, num_codes in told} == {2**power for power in range(10)}
    assert {row["num_codes"] for row in drawn.rows if row["metric"] == "psnr"} == {None}


@pytest.mark.parametrize("games", [("Pong",), ("Pong", "Breakout")])
def test_the_end_heads_figure_has_the_summarys_numbers_of_the_first_and_the_last_weights(
    games: tuple[str, ...],
) -> None:
    study = replace(STUDY, games=games)
    summary = summary_of(synthetic.world_model_of(study), study)
    drawn = draw_quality(summary)[-1]
    told = {
        (row["place"], row["variant"], row["metric"], row["env_step"], row["class"]): (row["mean"], row["n"])
        for row in drawn.rows
    }
    shown = {"end_precision", "end_predicted", "end_occurred", "end_calibration_error"}
    assert told == {
        (each["game"], each["variant"], each["metric"], each["env_step"], "" if each["class"] is None else each["class"]):
        (each["mean"], each["n"])
        for each in summary["world_model"]["scalars"]
        if (each["metric"] in shown and each["env_step"] in (0, 100_000))
        or (each["metric"] == "end_base_rate" and each["env_step"] == 100_000)
    }  # fmt: skip
    assert drawn.identifier == "F25" and len(drawn.figure.axes) == 2 * len(games)


def test_the_end_heads_title_tells_precision_base_rate_and_calibration() -> None:
    rows = [
        measured(metric="end_precision", of_class=50, value=0.6),
        measured(metric="end_base_rate", value=0.02),
        measured(metric="end_predicted", of_class=0, value=0.002),
        measured(metric="end_occurred", of_class=0, value=0.001),
        measured(metric="end_calibration_error", value=0.0126),
    ]
    told = quality_findings.ends(quality(rows))
    assert told == (
        "Precision of ends where half of them are found: iris 60 % (base rate 2 %)."
        " Expected calibration error: iris 0.013."
    )
    nothing_ended = summary_of([measured(), *rows[2:]])
    assert quality_findings.ends(quality_of(nothing_ended)).startswith("No game ended")
    assert "no end in the held-out episodes" in {
        text.get_text() for axes in draw_quality(nothing_ended)[-1].figure.axes for text in axes.texts
    }
    assert (
        draw_quality(summary_of([measured(), measured(metric="end_recall", of_class=0)]))[-1].identifier
        == "F16"
    )


def test_many_games_are_shown_as_their_mean() -> None:
    games = ("Pong", "Breakout", "Alien", "Hero")
    rows = [
        measured(game=game, value=value) for game, value in zip(games, (20.0, 22.0, 24.0, 26.0), strict=True)
    ]
    study = replace(STUDY, games=games, bootstrap_reps=1)
    episodes = synthetic.episodes_of(study, num_evaluations=1)
    found = quality_of(summarise(study, episodes, [], [], [], world_model=table(rows)))
    (place,) = found.places
    record = found.scalar("iris", place, "psnr", 1000)
    assert place.label == "Mean over 4 games" and record is not None and record["mean"] == 23.0


def test_a_film_ends_with_its_episode_and_its_picture_shows_the_chosen_frames(tmp_path: Path) -> None:
    paths = synthetic.write_films(STUDY, tmp_path)
    whole, cut = read_films(paths["iris", "Pong", 0])
    assert (len(whole.truth), len(cut.truth)) == (20, 8)
    assert times_shown(whole, most=7) == [0, 1, 2, 5, 10, 15, 19]
    assert times_shown(cut, most=3) == [0, 1, 7]
    pixels = np.asarray(film_picture(whole, [0, 5], magnification=1))
    assert (pixels[:64, 66:130] == whole.truth[5].transpose(1, 2, 0)).all()
    assert (pixels[66:130, 66:130] == whole.imagination[5].transpose(1, 2, 0)).all()
    assert isinstance(
        film_picture(Film(whole.truth, whole.truth, whole.truth), [0], magnification=2), Image.Image
    )


def test_the_same_frames_are_shown_of_all_variants_the_worst_and_those_in_the_middle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(50, 200, (9, 3, 8, 8)).astype(np.uint8)
    errors = np.array([3, 9, 1, 7, 5, 2, 8, 4, 6])
    copies = truth + errors[:, None, None, None].astype(np.uint8)
    films = {
        (name, "Pong", 0): [Film(truth[:4], truth[:4], copies[:4]), Film(truth[4:], truth[4:], copies[4:])]
        for name in ("iris", "fsq")
    }
    frames = held_out_frames(films)
    assert (frames["fsq", "Pong", 0].reconstructions == copies).all()
    assert [errors[index] for index in worst_and_middle(frames.values(), 4)] == [9, 8, 6, 5]
    assert sorted(worst_and_middle(frames.values(), 20)) == list(range(9))
    films["fsq", "Pong", 0] = [Film(truth[::-1], truth, copies)]
    assert held_out_frames(films) == {}, "frames that differ are not compared"
    assert first_seeds([("b", "Pong", 3), ("a", "Pong", 2), ("a", "Pong", 1)]) == [
        ("a", "Pong", 1), ("b", "Pong", 3),
    ]  # fmt: skip


def test_a_damaged_film_is_refused_with_its_tensor(tmp_path: Path) -> None:
    path = tmp_path / "film.safetensors"
    mask, frames = np.ones((1, 4), bool), np.zeros((1, 4, 3, 64, 64), np.uint8)
    save_file({"mask": mask, "truth": frames, "imagination": frames[:, :3]}, path)
    with pytest.raises(DataError, match="tensor imagination: found uint8"):
        read_films(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        read_films(path)


@pytest.mark.parametrize("num_shared", [1, 0])
def test_means_are_over_the_games_in_which_all_variants_were_measured(
    num_shared: int, tmp_path: Path
) -> None:
    games = ("Pong", "Breakout", "Alien", "Hero")
    described = replace(synthetic.study(games=games, num_variants=2, num_seeds=2), bootstrap_reps=20)
    rows = synthetic.episodes_of(described, num_evaluations=2)
    parts = {"iris": games[:2], "fsq": games[2 - num_shared :]}
    measured = table(row for row in synthetic.world_model_of(described) if row.game in parts[row.variant])
    told = summarise(described, rows, rows, [], [], world_model=measured)
    quality = quality_of(told)
    assert quality.everything.games == (("Breakout",) if num_shared else games[:2])
    assert quality.measured(quality.everything) == (["iris", "fsq"] if num_shared else ["iris"])
    build_report(told, {}, tmp_path)


def test_what_is_told_is_told_by_fewer_rows(tmp_path: Path) -> None:
    description = synthetic.study(games=("Pong", "Alien"), num_variants=2, num_seeds=2)
    rows, path = synthetic.world_model_of(description), tmp_path / "world_model.csv"
    text = "\n".join(
        [HEADER, *(",".join("" if cell is None else str(cell) for cell in row) for row in rows), ""]
    )
    path.write_text(text)
    every, told = read_world_model([path]), read_told([path])
    assert 0 < len(told) < 0.7 * len(every)
    confusions = synthetic.confusions_of(description)
    found = [world_model_summary(description, table, confusions) for table in (every, told)]
    assert found[0] == found[1] and found[0]["curves"]
