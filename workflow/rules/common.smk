# The study, what it plans, and the functions that give rules their inputs and digests. No rules.

import json
import os
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
# Jobs run this Python and the code of this checkout, whatever is on the caller's PATH.
sys.path.insert(0, str(ROOT / "src"))
for variable, first in (
    ("PATH", Path(sys.executable).parent),
    ("PYTHONPATH", ROOT / "src"),
):
    os.environ[variable] = os.pathsep.join(
        [str(first), os.environ.get(variable, "")]
    ).rstrip(os.pathsep)

from irisflow import params, paths  # noqa: E402
from irisflow.errors import IrisflowError  # noqa: E402
from irisflow.params import Choice  # noqa: E402
from irisflow.study import load_study  # noqa: E402
from irisflow.workflow import StudyPlan, check_config  # noqa: E402

try:
    check_config(config)
    STUDY = load_study(
        config["study"], scale=config.get("scale"), overrides=config.get("overrides")
    )
    PLAN = StudyPlan(STUDY)
except IrisflowError as error:
    sys.exit(f"irisflow: {error}")

# Not on the jobs' command lines, which Snakemake compares: an override re-plans what reads its key, by the digest.
os.environ.update(IRISFLOW_OVERRIDES=json.dumps(STUDY.overrides))
RECORDINGS, PRETRAINED, AGENTS, SCORES = (
    PLAN.recordings,
    PLAN.pretrained,
    PLAN.agents,
    PLAN.scores,
)

# `--cores 8` on two cores must not start eight jobs that fight over them: a training job claims its share of what
# was given, so that no more run at once than there are real cores. It computes with common.num_threads threads.
USABLE_CORES = len(os.sched_getaffinity(0))
JOB_CORES = max(1, -(-(workflow.cores or 1) // USABLE_CORES))


wildcard_constraints:
    scale="|".join(params.names("scale")),
    variant="|".join(params.names("variant")),
    tokenizer="|".join(params.names("tokenizer")),
    world_model="|".join(params.names("world_model")),
    corpus="|".join(params.names("corpus")),
    study="|".join(params.names("study")),
    game="[A-Za-z0-9][A-Za-z0-9_-]{0,60}",
    seed="[0-9]+",


def digest(stage):
    """Return a params function: the digest of what a stage reads for a rule's wildcards."""

    def function(wildcards):
        try:
            return PLAN.digest(stage, **dict(wildcards.items()))
        except IrisflowError as error:
            sys.exit(f"irisflow: {error}")

    return function


def records(wildcards):
    """Return what a study's statistics stand on; where some of it was deleted, have them made again.

    Snakemake lets a missing file be as long as all that was made of it is there.
    """
    if PLAN.has_lost_records:
        workflow.dag.forcerules.add(workflow.get_rule("aggregate"))
    return [str(file) for file in PLAN.records]
