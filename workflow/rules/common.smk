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

from snakemake.exceptions import WorkflowError  # noqa: E402

from irisflow import params, paths  # noqa: E402
from irisflow.errors import IrisflowError  # noqa: E402
from irisflow.params import Choice  # noqa: E402
from irisflow.study import load_study  # noqa: E402
from irisflow.workflow import StudyPlan, check_config  # noqa: E402

try:
    check_config(config)
    changes = {key: config.get(key) for key in ("scale", "games", "seeds", "overrides")}
    STUDY = load_study(config["study"], **changes)
    PLAN = StudyPlan(STUDY)
except IrisflowError as error:
    sys.exit(f"irisflow: {error}")
except KeyboardInterrupt:
    sys.exit("irisflow: interrupted while the study was read; no job was started.")

# Not on the jobs' command lines, which Snakemake compares: an override re-plans what reads its key, by the digest.
os.environ.update(IRISFLOW_OVERRIDES=json.dumps(STUDY.overrides))

# `--cores 8` on two cores must not start eight jobs that fight over them: a job claims its share of what was given for
# each thread that it computes with, so that no more run at once than there are real cores for.
USABLE_CORES = len(os.sched_getaffinity(0))
try:
    GIVEN_CORES = workflow.cores or 1
except (
    WorkflowError
):  # `--report`, `--summary`, `--unlock`, ... run no job and may come without `--cores`
    GIVEN_CORES = 1
JOB_CORES = max(1, -(-GIVEN_CORES // USABLE_CORES))


# Any one path component, so that a wrong name is refused by `named` with the nearest right ones, before it reaches a shell.
wildcard_constraints:
    scale="[^/]{1,80}",
    variant="[^/]{1,80}",
    tokenizer="[^/]{1,80}",
    world_model="[^/]{1,80}",
    corpus="[^/]{1,80}",
    study="|".join(params.names("study")),
    game="[^/]{1,80}",
    seed="[0-9]+",


def named(function):
    """Return an input, params or threads function that gets a rule's wildcards by name, each of which must exist."""

    def checked(wildcards):
        names = dict(wildcards.items())
        try:
            PLAN.check_names(**names)
            return function(**names)
        except IrisflowError as error:
            sys.exit(f"irisflow: {error}")

    return checked


def digest(stage):
    """Return a params function: the digest of what a stage reads for a rule's wildcards."""
    return named(lambda **names: PLAN.digest(stage, **names))


# What a job that computes with common.num_threads threads claims.
cores = named(lambda scale, **_: JOB_CORES * PLAN.num_threads(scale=scale))

# What a job takes of the profile's `gpu` slots: one if it computes on a GPU.
gpu_slots = named(lambda scale, **_: PLAN.num_gpu_slots(scale=scale))


def held_out(wildcards):
    """Return the held-out episodes of a game, and the manifest that vouches for them."""
    return paths.recorded(PLAN.held_out(scale=wildcards.scale, game=wildcards.game))


def records(wildcards):
    """Return what a study's statistics stand on; where some of it was deleted, have them made again.

    Snakemake lets a missing file be as long as all that was made of it is there.
    """
    workflow.dag.forcefiles.update(PLAN.lost_files)
    if PLAN.has_lost_records:
        workflow.dag.forcerules.add(workflow.get_rule("aggregate"))
    return [str(file) for file in PLAN.records]
