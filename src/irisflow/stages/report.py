"""Stage `report`: the PDF, the JSON and the figures, from a study's aggregates."""

import json

from irisflow import paths
from irisflow.errors import DataError
from irisflow.reporting.document import build_report
from irisflow.stages.study_request import StudyRequest
from irisflow.storage import space_errors, verify
from irisflow.workflow import StudyPlan


def run(request: StudyRequest) -> None:
    """Write `reports/summary.pdf`, `reports/summary.json` and `reports/figures/`. Raises DataError for a damaged input."""
    study = request.study
    path = paths.study(study.scale, study.name) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        summary["study"]["title"] = study.title
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it and run snakemake again.") from None
    runs = {
        (variant, game, seed): paths.agent(scale, variant, game, seed)
        for scale, variant, game, seed in StudyPlan(study).runs
    }
    reconstructions = {run: folder / "reconstructions.safetensors" for run, folder in runs.items()}
    for file in reconstructions.values():
        verify(file)
    with space_errors(paths.REPORTS):
        build_report(summary, reconstructions, paths.REPORTS)
