"""What a stage of a whole study is asked for. Apart from `request`, so that a run's digest does not cover study code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from irisflow import params, paths
from irisflow.identity import check_made_as_planned, open_own
from irisflow.stages.request import check_digest
from irisflow.storage import verify
from irisflow.study import Study, load_study
from irisflow.workflow import study_values


@dataclass(frozen=True)
class StudyRequest:
    """One stage of a whole study."""

    stage: str
    study: Study
    digest: str
    is_planned: bool = False  # whether the pipeline asked for just this digest

    @classmethod
    def checked(cls, stage: str, name: str, overrides: list[str], digest: str | None, **changes: Any) -> Self:
        """Return the request; `changes` replace keys of the study, such as its scale, if not None.

        Raises ConfigError if the study does not exist, or the digest is not the one that was planned.
        """
        study = load_study(name, overrides=overrides or None, **changes)
        computed = params.digest_of_values(stage, study_values(study, stage))
        check_digest(stage, planned=digest, computed=computed)
        return cls(stage, study, computed, digest is not None)

    def check_inputs(self, files: Sequence[Path]) -> None:
        """Raise DataError unless every file is whole, of the run whose address it lies at, and made as planned."""
        for folder in sorted({file.parent for file in files}):
            if address := paths.address(folder):
                artefact = open_own(folder, kind=address[0])
                check_made_as_planned(artefact, self.study.overrides, is_planned=self.is_planned)
        for file in files:
            verify(file)
