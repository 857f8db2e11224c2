"""Prints as JSON what the last two stages take for a large study, made up: `./run python benchmarks/report.py [FOLDER]`.

Six variants x 26 games x 5 seeds, with the records that a study of that size leaves: 780 runs, 3.2 million measurements of
world models. The stages `aggregate` and `report` read them from disk as they do in the pipeline. With FOLDER, results and
reports stay there to be looked at.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reporting"))
import synthetic
from safetensors.numpy import save as save_arrays

from irisflow import games, identity, params, paths
from irisflow.progress import progress
from irisflow.stages import aggregate, report
from irisflow.stages.study_request import StudyRequest
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.statistics.scores import Run
from irisflow.statistics.world_model import HEADER, Measured
from irisflow.storage import json_bytes, publish
from irisflow.study import Study
from irisflow.workflow import StudyPlan, study_values

VARIANTS = ("iris", "backbone_retnet", "loss_l2", "prediction_parallel", "quantizer_fsq", "tokens_64")
NUM_SEEDS = 5


def main() -> None:
    """Make the study, run both stages, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="irisflow-report-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        study = the_study()
        write_results(study)
        measured = {stage: taken(partial(run, request(stage, study))) for stage, run in STAGES.items()}
        size = (paths.REPORTS / "summary.pdf").stat().st_size
        print(json.dumps({**measured, "pdf_mb": size / 1e6, "cores": len(os.sched_getaffinity(0))}, indent=1))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


STAGES: dict[str, Callable[[StudyRequest], None]] = {"aggregate": aggregate.run, "report": report.run}


def the_study() -> Study:
    """Return the study whose records are made up."""
    return Study(
        name="synthetic",
        title="Synthetic study (made-up scores)",
        scale="full",
        games=list(games.ATARI_100K),
        variants=list(VARIANTS),
        baseline=VARIANTS[0],
        seeds=list(range(NUM_SEEDS)),
    )


def request(stage: str, study: Study) -> StudyRequest:
    """Return what the pipeline asks the stage for."""
    return StudyRequest(stage, study, params.digest_of_values(stage, study_values(study, stage)))


def taken(work: Callable[[], None]) -> dict[str, float]:
    """Return seconds by the clock, and of processors, of this process and its children."""
    before, start = processor_seconds(), time.perf_counter()
    work()
    return {"wall_s": time.perf_counter() - start, "processor_s": processor_seconds() - before}


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def write_results(study: Study) -> None:
    """Write the artefacts that the two stages read, each with its manifest."""
    described = aggregate.describe(study)
    metrics, timings = synthetic.metrics_of(described), synthetic.timings_of(described)
    confusions = synthetic.confusions_of(described)
    stretches = synthetic.stretches_of(described)
    costs = {(each["stage"], each["run_id"]): each for each in synthetic.costs_of(described)}
    provenance = synthetic.provenance_of(described)[0]
    episodes = by_run(synthetic.episodes_of(described))
    measured = by_run(synthetic.world_model_of(described))
    held_out = {StudyPlan(study).held_out(scale=study.scale, game=game) for game in study.games}
    for folder in sorted(held_out):
        publish_own(folder, records(costs["train_agent", f"{VARIANTS[0]}-{study.games[0]}-0"], provenance))
    with tempfile.TemporaryDirectory() as temporary:
        pictures = synthetic.write_reconstructions(described, Path(temporary))
        films = synthetic.write_films(described, Path(temporary))
        for scale, variant, game, seed in progress(StudyPlan(study).runs, what="making up", unit="run"):
            run = Run(variant, game, seed)
            cost = {stage: costs[stage, f"{variant}-{game}-{seed}"] for stage in ("train_agent", "evaluate")}
            first = (variant, game, study.seeds[0])
            of_agent = {
                "curve.csv": csv_of(each for each in episodes[run] if each.split == "curve"),
                "metrics.jsonl": lines(metrics[run]),
                "timings.jsonl": lines(timings[run]),
                "reconstructions.safetensors": pictures[first].read_bytes(),
                **records(cost["train_agent"], provenance),
            }
            of_scores = {
                "scores.csv": csv_of(each for each in episodes[run] if each.split == "final"),
                **records(cost["evaluate"], provenance),
            }
            of_world_model = {
                "world_model.csv": "\n".join([HEADER, *map(row, measured[run]), ""]).encode(),
                "confusion.json": json_bytes(confusions[run]),
                "stretches.safetensors": save_arrays(stretches[run]),
                "film.safetensors": films[first].read_bytes(),
                **records({**cost["evaluate"], "stage": "measure_world_model"}, provenance),
            }
            publish_own(paths.agent(scale, variant, game, seed), of_agent)
            publish_own(paths.scores(scale, variant, game, seed), of_scores)
            publish_own(paths.world_model_quality(scale, variant, game, seed), of_world_model)


def by_run(rows: Iterable[Any]) -> dict[Run, list[Any]]:
    """Return the rows of each run, which lie beside each other."""
    return {
        Run(*run): list(found)
        for run, found in groupby(rows, key=lambda row: (row.variant, row.game, row.seed))
    }


def csv_of(episodes: Iterable[EpisodeScore]) -> bytes:
    """Return a scores file."""
    return to_csv(sorted(episodes)).encode()


def row(measured: Measured) -> str:
    """Return a row of a file of measurements."""
    return ",".join("" if cell is None else str(cell) for cell in measured)


def lines(epochs: Sequence[dict[str, float]]) -> bytes:
    """Return JSON, a line an epoch."""
    return "".join(f"{json.dumps(epoch)}\n" for epoch in epochs).encode()


def records(cost: dict[str, Any], provenance: dict[str, Any]) -> dict[str, bytes]:
    """Return what each stage leaves beside its results."""
    return {
        "cost.json": json_bytes(cost),
        "provenance.json": json_bytes({**provenance, "stage": cost["stage"]}),
    }


def publish_own(folder: Path, files: dict[str, bytes]) -> None:
    """Write an artefact as the stage would that belongs to its address."""
    address = paths.address(folder)
    digest = identity.planned_digest(folder, ())
    assert address is not None and digest is not None
    publish(folder, files, kind=address[0], digest=digest, about=address[1])


if __name__ == "__main__":
    main()
