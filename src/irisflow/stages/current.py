"""Whether a stage has nothing to do: what it would make is there, whole, and made from what it would read now."""

from inspect import signature
from pathlib import Path

from irisflow import paths
from irisflow.errors import DataError
from irisflow.identity import STAGES, check_address, noted_inputs, open_own
from irisflow.stages.request import RunRequest
from irisflow.stages.study_request import StudyRequest
from irisflow.storage import MANIFEST, Artefact, check_sha256, read_manifest, sha256_of
from irisflow.workflow import StudyPlan


def is_current(request: RunRequest | StudyRequest) -> bool:
    """Return whether running the stage would make what lies in its folder once more.

    The digest must be that of the present configuration and code; every file and every input must have the sha256 that was
    noted when the artefact was made. A stage that was stopped is not done as long as there is something to resume. Damage
    is no error here: the stage itself meets it, and says so.
    """
    if paths.resume(request.stage, request.digest).exists():
        return False
    try:
        artefact = read_manifest(folder_of(request) / MANIFEST)
        _check_files(artefact)
        check_address(artefact)
        inputs = noted_inputs(artefact)
        for path, sha256 in inputs.items():
            _check_input(path, sha256)
    except DataError:
        return False
    return artefact.digest == request.digest and _are_asked_for(request, set(inputs))


def folder_of(request: RunRequest | StudyRequest) -> Path:
    """Return the folder in which a stage publishes."""
    if isinstance(request, StudyRequest):
        study = request.study
        return paths.REPORTS if request.stage == "report" else paths.study(study.scale, study.name)
    kind = next(kind for kind, stage in STAGES.items() if stage == request.stage)
    address = getattr(paths, kind)
    folder: Path = address(**{name: request.about[name] for name in signature(address).parameters})
    return folder


def _check_files(artefact: Artefact) -> None:
    for name, sha256 in artefact.sha256.items():
        path = artefact.folder / name
        check_sha256(path, expected=sha256, found=sha256_of(path))


def _check_input(path: Path, sha256: str) -> None:
    """Raise DataError unless an input is what it was, and its own manifest vouches for it."""
    check_sha256(path, expected=sha256, found=sha256_of(path))
    if address := paths.address(path.parent):
        listing = open_own(path.parent, kind=address[0]).sha256
        check_sha256(path, expected=listing.get(path.name), found=sha256)


def _are_asked_for(request: RunRequest | StudyRequest, inputs: set[Path]) -> bool:
    """Return whether an artefact stands on the inputs that the command line names beside what the digest covers."""
    if isinstance(request, RunRequest):
        return request.held_out is None or request.held_out / paths.EPISODES in inputs
    plan = StudyPlan(request.study)
    if request.stage == "aggregate":
        return inputs == set(plan.records)
    summary = paths.study(request.study.scale, request.study.name) / "summary.json"
    return inputs == {summary, *plan.reconstructions, *plan.films}
