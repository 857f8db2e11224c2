"""What the jobs behind a study's runs wrote down beside scores: where each record lies, and what they say."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml

from irisflow import paths
from irisflow.errors import DataError
from irisflow.statistics.inputs import read_costs, read_metrics, read_provenance, read_timings
from irisflow.statistics.provenance import job_record
from irisflow.statistics.scores import Run
from irisflow.statistics.stretches import RunStretches, read_stretches
from irisflow.statistics.world_model import (
    Confusions,
    read_confusion,
    read_world_model,
    rows_of,
    table,
    together,
)
from irisflow.storage import MANIFEST, read_manifest, sha256_of, verify

Record = Mapping[str, Any]
Epochs = Sequence[Mapping[str, float]]
JOB_FILES = ("cost.json", "provenance.json")
DRAWN = ("context", "num_starts", "num_samples")  # what decides which moments a world model is measured from


@dataclass(frozen=True)
class RecordFiles:
    """Files that finished jobs left below `root`, told apart by their folders' addresses. Each is read when asked for."""

    files: Sequence[Path]
    root: Path = Path()

    def named(self, name: str) -> list[Path]:
        """Return the files of a name."""
        return [file for file in self.files if file.name == name]

    def of_runs(self, kind: str, name: str) -> dict[Run, Path]:
        """Return the file of this name that each run's artefact of a kind has."""
        found = {}
        for file in self.named(name):
            address = paths.address(file.parent.relative_to(self.root))
            if address and address[0] == kind:
                names = address[1]
                found[Run(names["variant"], names["game"], int(names["seed"]))] = file
        return found

    def jobs(self) -> "list[Job]":
        """Return what each job wrote down about itself. Raises DataError for what is damaged or ill-typed."""
        folders = [file.parent for file in sorted(self.named("cost.json"))]
        places = [folder.relative_to(self.root).as_posix() for folder in folders]
        return [
            read_job(folder, place=place, root=self.root)
            for folder, place in zip(folders, places, strict=True)
        ]

    def metrics(self) -> dict[Run, Epochs]:
        """Return what training wrote down of each epoch."""
        return {run: read_metrics(file) for run, file in self.of_runs("agent", "metrics.jsonl").items()}

    def timings(self) -> dict[Run, Epochs]:
        """Return what the phases of each epoch took."""
        return {run: read_timings(file) for run, file in self.of_runs("agent", "timings.jsonl").items()}

    @property
    def measurements(self) -> list[Path]:
        """The files of what was measured of world models."""
        return list(self.of_runs("world_model_quality", "world_model.csv").values())

    @property
    def stretch_files(self) -> dict[Run, Path]:
        """The file of sums over stretches that each run has; older runs have none."""
        return self.of_runs("world_model_quality", "stretches.safetensors")

    def confusions(self) -> dict[Run, Confusions]:
        """Return how rewards and ends were told."""
        found = self.of_runs("world_model_quality", "confusion.json")
        return {run: read_confusion(file) for run, file in found.items()}


@dataclass(frozen=True)
class Job:
    """What one job cost and where it came from. `place` is its folder, the same in all checkouts.

    `outputs` are the sha256 of its files by name, `about` is what its manifest says of it.
    """

    folder: Path
    place: str
    cost: Record
    provenance: Record
    outputs: Mapping[str, str] = field(default_factory=dict)
    about: Record = field(default_factory=dict)

    @property
    def run(self) -> Run | None:
        """The run that the job belongs to; None where several share it."""
        variant = self.cost["variant"]
        return None if variant is None else Run(variant, str(self.cost["game"]), int(self.cost["seed"]))

    @property
    def record(self) -> dict[str, Any]:
        """All that the report tells of where the job's results come from."""
        return job_record(self.place, self.cost, self.provenance, outputs=self.outputs, about=self.about)

    @property
    def key(self) -> tuple[object, ...]:
        """What two records of one job have in common."""
        if self.run is not None:
            return (self.cost["stage"], *self.run)
        return (self.place, json.dumps(self.cost, sort_keys=True))


@dataclass(frozen=True)
class RunRecords:
    """What is known of one run beside its scores; None is not known. `measured_on` tells on what its world model was."""

    metrics: Epochs | None = None
    timings: Epochs | None = None
    confusions: Confusions | None = None
    measured_on: str | None = None
    reconstructions: Path | None = None
    film: Path | None = None
    stretches: RunStretches | None = None

    def or_else(self, other: Self) -> Self:
        """Return the same, and what only the other knows."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        if self.measured_on is not None:
            known["stretches"] = self.stretches  # sums of other measurements do not belong to these
        return replace(other, **known)


@dataclass(frozen=True)
class Records:
    """What is known of runs beside their scores."""

    jobs: tuple[Job, ...] = ()
    runs: Mapping[Run, RunRecords] = field(default_factory=dict)
    world_model: pd.DataFrame = field(default_factory=lambda: table(()))

    def each(self, name: str) -> dict[Run, Any]:
        """Return this of every run that has it."""
        return {run: value for run, own in self.runs.items() if (value := getattr(own, name)) is not None}

    def renamed(self, told: Callable[[str], str]) -> Self:
        """Return the same with other names of variants."""
        jobs = [
            replace(job, cost={**job.cost, "variant": told(job.run.variant)}) if job.run else job
            for job in self.jobs
        ]
        runs = {run._replace(variant=told(run.variant)): own for run, own in self.runs.items()}
        rows = self.world_model
        return type(self)(tuple(jobs), runs, rows.assign(variant=rows["variant"].cat.rename_categories(told)))

    def of(self, runs: Collection[Run], games: Collection[str]) -> Self:
        """Return what belongs to these runs, the shared jobs that they stand on, and random play in the games."""
        return type(self)(
            tuple(_jobs_of(self.jobs, runs, games)),
            {run: own for run, own in self.runs.items() if run in runs},
            rows_of(self.world_model, runs),
        )

    def measured_of(self, runs: Collection[Run]) -> Self:
        """Return the same, with measurements of these runs' world models only."""
        unknown = {"confusions": None, "stretches": None, "measured_on": None, "film": None}
        return replace(
            self,
            runs={run: own if run in runs else replace(own, **unknown) for run, own in self.runs.items()},
            world_model=rows_of(self.world_model, runs),
        )


def joined(parts: Sequence[Records]) -> Records:
    """Return all parts as one. What several have of a run or a job, they share: it is taken from the first."""
    jobs: dict[tuple[object, ...], Job] = {}
    runs: dict[Run, RunRecords] = {}
    measured = []
    for part in parts:
        new = {run for run in part.each("measured_on") if run not in runs or not runs[run].measured_on}
        measured.append(rows_of(part.world_model, new))
        for run, own in part.runs.items():
            runs[run] = runs[run].or_else(own) if run in runs else own
        for job in part.jobs:
            jobs.setdefault(job.key, job)
    return Records(tuple(jobs.values()), runs, together(measured))


def read_study_records(folder: Path) -> tuple[Records, str]:
    """Return what the jobs of a finished study left, and what is not there any more, in words; empty if all is.

    A study's provenance names its records with their sha256: those of a later run are another run's. Raises DamageError for
    a file that its own manifest does not vouch for, either.
    """
    noted, root = _noted(folder), _root(folder)
    if root is None:
        where = paths.study("SCALE", "NAME")
        return Records(), f"it does not lie at {where} beside what its jobs wrote down, which is not shown"
    by_job: dict[Path, dict[str, str]] = {}
    for name, sha256 in noted.items():
        by_job.setdefault(Path(name).parent, {})[name] = sha256
    kept = {
        job: files
        for job, files in by_job.items()
        if all(_is_as_noted(root / name, sha256) for name, sha256 in files.items())
    }
    files = RecordFiles([root / name for found in kept.values() for name in found], root)
    lost = len(by_job) - len(kept)
    if not lost:
        return _read(files), ""
    return (
        _read(files),
        f"what {lost} of its {len(by_job)} jobs wrote down is gone, or is that of later jobs, and is not shown",
    )


def _noted(folder: Path) -> dict[str, str]:
    """Return path -> sha256 of the records that a study was made of."""
    file = folder / "provenance.json"
    verify(file)
    (source,) = read_provenance([file])
    return {
        name: sha256
        for name, sha256 in source["inputs"].items()
        if paths.address(Path(name).parent) is not None
    }


def _root(folder: Path) -> Path | None:
    """Return the folder below whose `results/` a study lies; None for one that lies elsewhere."""
    depth = len(paths.study("scale", "study").parts)
    place = folder if len(folder.parts) >= depth else folder.resolve()
    is_study = paths.address(Path(*place.parts[-depth:])) is not None
    return place.parents[depth - 1] if is_study else None


def _is_as_noted(file: Path, sha256: str) -> bool:
    """Return whether a file is there and is the one that was noted."""
    if not file.is_file():
        return False
    if sha256_of(file) == sha256:
        return True
    verify(file)
    return False


def _read(files: RecordFiles) -> Records:
    parts: dict[str, Mapping[Run, Any]] = {
        "metrics": files.metrics(),
        "timings": files.timings(),
        "confusions": files.confusions(),
        "stretches": {run: read_stretches(file) for run, file in files.stretch_files.items()},
        "measured_on": _measured_on(files),
        "reconstructions": _pictures(files, "agent", "reconstructions.safetensors"),
        "film": _pictures(files, "world_model_quality", "film.safetensors"),
    }
    runs = dict.fromkeys(run for found in parts.values() for run in found)
    known = {run: {name: found[run] for name, found in parts.items() if run in found} for run in runs}
    return Records(
        tuple(files.jobs()),
        {run: RunRecords(**own) for run, own in known.items()},
        read_world_model(files.measurements),
    )


def read_job(folder: Path, *, place: str, root: Path = Path(), diff_root: Path | None = None) -> Job:
    """Return what a job wrote into its folder about itself.

    `root` is where the paths of its inputs begin, `diff_root` that of its uncommitted changes, if it is another.
    """
    (cost,) = read_costs([folder / "cost.json"])
    (source,) = read_provenance([folder / "provenance.json"])
    source["inputs"] = {str(root / name): sha256 for name, sha256 in source["inputs"].items()}
    if source.get("diff_file"):
        source["diff_file"] = str((diff_root or root) / source["diff_file"])
    manifest = folder / MANIFEST
    artefact = read_manifest(manifest) if manifest.is_file() else None
    if artefact is None:
        return Job(folder, place, cost, source)
    return Job(folder, place, cost, source, artefact.sha256, artefact.about)


def _measured_on(files: RecordFiles) -> dict[Run, str]:
    """Return on which episodes, and from which moments of them, each run's world model was measured."""
    found = {}
    for run, file in files.of_runs("world_model_quality", "provenance.json").items():
        (source,) = read_provenance([file])
        recorded = [sha for name, sha in source["inputs"].items() if Path(name).name == paths.EPISODES]
        found[run] = json.dumps([*recorded, _drawn(file.with_name("params.yaml"))])
    return found


def _drawn(file: Path) -> list[Any]:
    verify(file)
    try:
        asked = yaml.safe_load(file.read_text(encoding="utf-8"))["evaluation"]["world_model_quality"]
        return [asked[key] for key in DRAWN]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Run its stage again.") from None


def _pictures(files: RecordFiles, kind: str, name: str) -> dict[Run, Path]:
    """Return the pictures beside the records that are there. A damaged one raises DamageError."""
    beside = {run: file.with_name(name) for run, file in files.of_runs(kind, "cost.json").items()}
    found = {run: file for run, file in beside.items() if file.is_file()}
    for file in found.values():
        verify(file)
    return found


def _jobs_of(jobs: Sequence[Job], runs: Collection[Run], games: Collection[str]) -> Iterator[Job]:
    """Yield the jobs of runs and all that these stand on, in their order."""
    by_folder = {job.folder: job for job in jobs}
    wanted = {job.folder for job in jobs if job.run in runs or _is_random_play(job, games)}
    left = list(wanted)
    while left:
        inputs = by_folder[left.pop()].provenance["inputs"]
        found = {Path(name).parent for name in inputs} & by_folder.keys() - wanted
        wanted |= found
        left += found
    return (job for job in jobs if job.folder in wanted)


def _is_random_play(job: Job, games: Collection[str]) -> bool:
    return job.cost["stage"] == "play_random" and job.cost["game"] in games
