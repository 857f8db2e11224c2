"""Stage `aggregate`: every number of the report, from the scores of a study's runs."""

import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from irisflow import compositions, paths, provenance
from irisflow.checkout import git_state
from irisflow.garbage import without_garbage_collection
from irisflow.stages.study_request import StudyRequest
from irisflow.statistics.configuration import Change, changed_keys, settings_of
from irisflow.statistics.episode_score import to_csv
from irisflow.statistics.quality_intervals import read_intervals
from irisflow.statistics.records import RecordFiles
from irisflow.statistics.scores import read_scores
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.summary import summarise
from irisflow.statistics.world_model import join_csv, read_told
from irisflow.storage import compact_json, json_bytes, publish
from irisflow.study import Study
from irisflow.workflow import StudyPlan

LEAST_TO_COMBINE = 4  # baseline, two changes, both


@without_garbage_collection()
def run(request: StudyRequest) -> None:
    """Write the artefact `study`. Raises DataError if a run's records are missing, damaged or another run's."""
    study = request.study
    plan, git = StudyPlan(study), git_state(paths.diffs(study.scale))
    request.check_inputs(plan.records)
    played = {file for file in plan.random_play if file.name == "scores.csv"}
    agents = {file for file in plan.records if file.name in ("scores.csv", "curve.csv")} - played
    records = RecordFiles(plan.records)
    with _process_beside() as beside:  # of a large study the measurements are millions of rows
        measured = beside.submit(read_told, records.measurements)
        described = describe(study)
        intervals = beside.submit(read_intervals, described, records.stretch_files)
        source = beside.submit(
            partial(provenance.record, request.stage, request.digest, git=git, seeds={}, inputs=plan.records)
        )
        scores, random_play = read_scores(agents), read_scores(played)
        jobs = records.jobs()
        files = {
            "scores.csv": to_csv([*scores, *random_play]).encode(),
            "world_model.csv": join_csv(records.measurements),
        }
        summary = summarise(
            described,
            scores,
            scores,
            [job.cost for job in jobs],
            [job.provenance for job in jobs],
            metrics=records.metrics(),
            timings=records.timings(),
            random_play=random_play,
            world_model=measured.result,
            confusions=records.confusions(),
            intervals=intervals.result,
            jobs=[job.record for job in jobs],
        )
    files |= {"summary.json": compact_json(summary), "provenance.json": json_bytes(source.result())}
    about = {"study": study.name, "scale": study.scale}
    folder = paths.study(study.scale, study.name)
    publish(folder, files, kind="study", digest=request.digest, about=about)


def _process_beside() -> ProcessPoolExecutor:
    """Return a process in which other functions run meanwhile. Ctrl-C is for this one, which waits for it and ends."""
    return ProcessPoolExecutor(1, get_context("fork"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def describe(study: Study) -> StudyDescription:
    """Return what the report is told about a study."""
    composed = {name: compositions.values(study.choice(name)) for name in study.variants}
    writes = _written_changes(study)
    baseline = composed[study.baseline]
    return StudyDescription(
        name=study.name,
        title=study.title,
        scale=study.scale,
        scale_note=baseline["scale"]["note"],
        games=tuple(study.games),
        variants=tuple(
            VariantDescription(
                name,
                values["variant"]["question"],
                values["variant"]["axis"],
                changed_keys(baseline, values),
                writes.get(name, ()),
            )
            for name, values in composed.items()
        ),
        baseline=study.baseline,
        seeds=tuple(study.seeds),
        num_evaluation_episodes=baseline["evaluation"]["final"]["num_episodes"],
        bootstrap_reps=study.statistics.bootstrap_reps,
        full_protocol=study.scale == "full" and not study.overrides,
        configuration=settings_of(baseline),
    )


def _written_changes(study: Study) -> dict[str, tuple[Change, ...]]:
    """Return variant -> what it writes otherwise than the baseline; nothing where no variant can combine two others."""
    if len(study.variants) < LEAST_TO_COMBINE:
        return {}
    trees = {name: compositions.as_written(study.choice(name)) for name in study.variants}
    return {name: changed_keys(trees[study.baseline], tree) for name, tree in trees.items()}
