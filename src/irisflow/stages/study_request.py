"""What a stage of a whole study is asked for. Apart from `request`, so that a run's digest does not cover study code."""

from dataclasses import dataclass
from typing import Self

from irisflow import params
from irisflow.stages.request import check_digest
from irisflow.study import Study, load_study
from irisflow.workflow import study_values


@dataclass(frozen=True)
class StudyRequest:
    """One stage of a whole study."""

    stage: str
    study: Study
    digest: str

    @classmethod
    def checked(
        cls, stage: str, name: str, scale: str | None, overrides: list[str], digest: str | None
    ) -> Self:
        """Return the request.

        Raises ConfigError if the study does not exist, or the digest is not the one that was planned.
        """
        study = load_study(name, scale=scale, overrides=overrides or None)
        computed = params.digest_of_values(stage, study_values(study, stage))
        check_digest(stage, planned=digest, computed=computed)
        return cls(stage, study, computed)
