"""Stage `report`: the PDF, the page, the JSON and the figures, from a study's aggregates."""

import json
from os.path import relpath
from pathlib import Path

from irisflow import paths
from irisflow.errors import DamageError
from irisflow.identity import open_own
from irisflow.reporting.document import build_report
from irisflow.stages.study_request import StudyRequest
from irisflow.storage import MANIFEST, manifest_bytes, sha256_of, space_errors, verify, write_atomically
from irisflow.workflow import StudyPlan


def run(request: StudyRequest) -> None:
    """Write `reports/`: the PDF, the page, the JSON, the figures, their manifest. Raises DataError for a damaged input."""
    study = request.study
    path = paths.study(study.scale, study.name) / "summary.json"
    open_own(path.parent, kind="study")
    verify(path)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        summary["study"]["title"] = study.title
    except (OSError, ValueError, KeyError) as error:
        raise DamageError(f"{path} cannot be read: {error}.", path, "unreadable") from None
    plan = StudyPlan(study)
    reconstructions = {run[1:]: paths.agent(*run) / "reconstructions.safetensors" for run in plan.runs}
    films = {run[1:]: paths.world_model_quality(*run) / "film.safetensors" for run in plan.runs if plan.films}
    folders = {run[1:]: relpath(paths.agent(*run), paths.REPORTS) for run in plan.runs}
    pictures = [*reconstructions.values(), *films.values()]
    request.check_inputs(pictures)
    inputs = {str(file): sha256_of(file) for file in (path, *pictures)}
    with space_errors(paths.REPORTS):
        build_report(summary, reconstructions, paths.REPORTS, films=films, folders=folders)
    about = {"study": study.name, "scale": study.scale, "inputs": inputs}
    sha256 = {file.relative_to(paths.REPORTS).as_posix(): sha256_of(file) for file in _made()}
    write_atomically(paths.REPORTS / MANIFEST, manifest_bytes("report", request.digest, about, sha256))


def _made() -> list[Path]:
    """Return the files of the report; Snakemake leaves a hidden one of its own beside the figures."""
    folders = (paths.REPORTS / "figures", paths.REPORTS / "tables")
    drawn = [file for folder in folders for file in folder.iterdir() if not file.name.startswith(".")]
    named = [paths.REPORTS / name for name in paths.REPORT_FILES if "." in name and name != MANIFEST]
    return [*named, *drawn]
