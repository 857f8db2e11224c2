"""All that a report stands on, hashed again: nothing is believed for its date or size.

Each file is held against its artefact's manifest, each input against the sha256 that its reader noted, the checkpoint behind
each score against the agent that is there, and DVC's files and copies against `dvc.lock`.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from irisflow import params, storage
from irisflow import paths as places
from irisflow.errors import ConfigError, DamageError, DataError
from irisflow.identity import check_address, noted_changes, noted_inputs, planned_digest
from irisflow.mend import way_out
from irisflow.progress import progress
from irisflow.storage import MANIFEST, Artefact, read_manifest
from irisflow.study import Study, load_study
from irisflow.versions import LOCK, Versions, read_versions
from irisflow.workflow import StudyPlan

CHUNK = 1 << 20
SCORES = ("scores.csv", "curve.csv")
# Damage in a file or folder itself; the rest (missing, extra, outdated) leaves nothing to set aside.
IN_ITSELF = ("sha256", "md5", "unreadable", "incomplete", "foreign")
ANEW = "Run the same snakemake command again, or restore both with `dvc checkout`."
MAKE = "Make it with snakemake, or fetch it with `irisflow pull`."
COPY = "Then `dvc commit` (from a whole file) or `dvc fetch` (from a remote) brings it back."


@dataclass(frozen=True)
class Problem:
    """What differs. `expected` and `found` are hashes or names, `mend` says what to do."""

    path: Path
    reason: str
    finding: str
    mend: str
    expected: str | None = None
    found: str | None = None
    aside: str | None = None

    def line(self) -> str:
        """Return the whole of it in one line."""
        if self.aside:
            return f"{self.finding} It was set aside as {self.aside}. {self.mend}"
        if self.reason in IN_ITSELF:
            return f"{self.finding} Put it out of the way: `irisflow verify --set-aside`. {self.mend}"
        return f"{self.finding} {self.mend}"


@dataclass
class Inspection:
    """What was hashed, what differs, and what is worth knowing but is no damage."""

    hashes: dict[tuple[Path, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: Versions | None = None
    named: set[Path] = field(default_factory=set)  # the paths of the problems

    def hash(self, wanted: Iterable[tuple[Path, str]]) -> None:
        """Hash the files that are there and were not hashed yet; `wanted` pairs each with `sha256` or `md5`."""
        kinds: dict[Path, list[str]] = {}
        for path, kind in dict.fromkeys(wanted):
            if (path, kind) not in self.hashes and path.is_file():
                kinds.setdefault(path, []).append(kind)
        with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
            results = pool.map(_hashes, kinds.items())
            for found in progress(results, what="hashing", unit="file", total=len(kinds)):
                self.hashes |= found

    def add(
        self, path: Path, reason: str, finding: str, mend: str | None = None, **hashes: str | None
    ) -> None:
        """Add a problem, of which a path has one at most."""
        if path not in self.named:
            self.named.add(path)
            self.problems.append(
                Problem(path, reason, finding, mend or way_out(path, self.versions), **hashes)
            )

    def compare(self, path: Path, kind: str, expected: str, witness: str, mend: str | None = None) -> None:
        """Add a problem unless a hashed file has the hash that `witness` gives it."""
        found = self.hashes.get((path, kind))
        if found is None:
            state = "cannot be read" if path.exists() else "is missing"
            self.add(path, "missing", f"{path} {state}; {witness} names it.", expected=expected)
        elif found != expected:
            finding = f"{path} is damaged: its {kind} is {found[:12]}, {witness} has {expected[:12]}."
            self.add(path, kind, finding, mend, expected=expected, found=found)

    def has_problem(self, path: Path) -> bool:
        """Return whether a file, or the artefact that it belongs to, was found damaged."""
        return not self.named.isdisjoint((path, *path.parents))

    @property
    def files(self) -> set[Path]:
        """The files that were hashed."""
        return {path for path, _ in self.hashes}

    def summary(self) -> str:
        """Return the last line: how much was hashed, and whether all of it is whole."""
        size = sum(path.stat().st_size for path in self.files if path.exists()) / 1e6
        count = len(self.problems)
        verdict = "all whole" if not count else f"{count} problem{'s' if count > 1 else ''}"
        return f"{len(self.files)} files, {size:.1f} MB, {verdict}"


def run(*, study: str | None, scale: str | None, paths: list[str], set_aside: bool, as_json: bool) -> None:
    """Print what differs, one line each, and the verdict. Raises DataError if something does."""
    if paths:
        result = inspect_paths([Path(os.path.relpath(path)) for path in paths])
    else:
        result = inspect_study(load_study(study or _default_study(), scale=scale))
    if set_aside:
        result.problems = [_put_aside(problem) for problem in result.problems]
    if as_json:
        print(json.dumps(_plain(result), indent=1))
    else:
        for line in (*(problem.line() for problem in result.problems), *result.notes):
            print(line)
    if result.problems:
        raise DataError(f"{result.summary()}.")
    if not as_json:
        print(result.summary())


def inspect_study(study: Study) -> Inspection:
    """Return what was found of all files that the report of a study stands on."""
    result = _inspection()
    report = _report(result, study)
    locked, copies = _locked(result, study, is_reported=bool(report))
    needed = {file.parent for file in StudyPlan(study).files}
    beside = {file.parent for file in locked if file.name == MANIFEST and file.exists()} - {places.REPORTS}
    if not any(folder.exists() for folder in needed):
        result.add(places.RESULTS, "missing", f"Nothing of study {study.name} ({study.scale}) is here.", MAKE)
        return result
    artefacts = _opened(result, sorted(needed | beside))
    _check(result, artefacts + report, locked, copies)
    _note_other_configurations(result, artefacts, study)
    return result


def inspect_paths(chosen: Iterable[Path]) -> Inspection:
    """Return what was found of the artefacts in or around some paths. Raises ConfigError for a path without any."""
    result = _inspection()
    folders = {folder for path in chosen for folder in _folders_of(path)}
    _check(result, _opened(result, sorted(folders)), {}, {})
    return result


def _inspection() -> Inspection:
    """Return an inspection of nothing yet, which knows what `dvc.lock` names."""
    try:
        return Inspection(versions=read_versions())
    except DataError as error:
        return Inspection(problems=[Problem(LOCK, "lock", str(error), f"Restore it: `git checkout {LOCK}`.")])


def _check(
    result: Inspection, artefacts: list[Artefact], locked: Mapping[Path, str], copies: Mapping[Path, str]
) -> None:
    """Hash and compare all files of artefacts, what these stand on, and DVC's files and copies."""
    claims = {artefact.folder / name: sha for artefact in artefacts for name, sha in artefact.sha256.items()}
    manifests = [artefact.folder / MANIFEST for artefact in artefacts]
    result.hash([*((path, "sha256") for path in (*claims, *manifests)), *((path, "md5") for path in locked)])
    result.hash((copy, "md5") for copy in copies)
    for path, sha256 in claims.items():
        result.compare(path, "sha256", sha256, MANIFEST)
    for copy, md5 in copies.items():
        if copy.exists():
            result.compare(copy, "md5", md5, "its name", mend=COPY)
    _check_changes(result, artefacts)
    for artefact in artefacts:
        _check_extra(result, artefact)
        _check_inputs(result, artefact)
        _check_checkpoints(result, artefact)
    _check_locked(result, locked, vouched={*claims, *manifests})


def _opened(result: Inspection, folders: Iterable[Path]) -> list[Artefact]:
    """Return the artefacts whose manifests are whole and name the address that they lie at."""
    artefacts = []
    for folder in folders:
        manifest = folder / MANIFEST
        if not manifest.exists():
            missing = manifest if folder.exists() else folder
            result.add(missing, "missing", f"{missing} is missing.")
            continue
        try:
            artefact = read_manifest(manifest)
            check_address(artefact)
            artefacts.append(_confined(artefact))
        except DamageError as error:
            result.add(error.path, error.reason, error.finding, expected=error.sha256)
        except DataError as error:
            result.add(manifest, "schema", str(error), ANEW)
    return artefacts


def _confined(artefact: Artefact) -> Artefact:
    """Return an artefact. Raises DamageError if its manifest names a file outside its folder."""
    for name in artefact.sha256:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            path = artefact.folder / MANIFEST
            raise DamageError(f"{path} names {name!r}, which is not in its folder.", path, "foreign")
    return artefact


def _report(result: Inspection, study: Study) -> list[Artefact]:
    """Return the report if it is there and is that of this study."""
    manifest = places.REPORTS / MANIFEST
    if not manifest.exists() and not (places.REPORTS / "summary.pdf").exists():
        result.notes.append("There is no report yet.")
        return []
    found = _opened(result, [places.REPORTS])
    names = [(report.about.get("study"), report.about.get("scale")) for report in found]
    if not found or names == [(study.name, study.scale)]:
        return found
    result.notes.append(f"{places.REPORTS} holds the report of study {names[0][0]}, which was not looked at.")
    return []


def _check_extra(result: Inspection, artefact: Artefact) -> None:
    """Find files that lie in an artefact and are none of it. Hidden ones and those set aside are left alone."""
    known = {artefact.folder / name for name in (*artefact.sha256, MANIFEST)}
    roots = [artefact.folder]
    if artefact.kind == "report":  # beside which there may be other things
        roots = [artefact.folder / "figures", artefact.folder / "tables"]
    for path in sorted(path for root in roots for path in root.rglob("*")):
        inside = path.relative_to(artefact.folder).parts
        is_quiet = any(part.startswith(".") or ".corrupt-" in part for part in inside)
        if path.is_file() and path not in known and not is_quiet:
            finding = f"{path} is extra: {artefact.folder / MANIFEST} does not name it."
            result.add(path, "extra", finding, "Move it away.")


def _check_inputs(result: Inspection, artefact: Artefact) -> None:
    """Find inputs that are no longer those that an artefact was made from."""
    if result.has_problem(artefact.folder / "provenance.json"):
        return
    inputs = noted_inputs(artefact)
    result.hash((path, "sha256") for path in inputs)
    for path, expected in inputs.items():
        _stands_on(result, artefact.folder, path, expected)


def _check_changes(result: Inspection, artefacts: Iterable[Artefact]) -> None:
    """Find kept changes that are not what they were; that some are gone is a remark, as no result depends on them."""
    whole = [found for found in artefacts if not result.has_problem(found.folder / "provenance.json")]
    kept = dict(changes for found in whole if (changes := noted_changes(found)) is not None)
    result.hash((path, "sha256") for path in kept)
    gone = [path for path in kept if not path.exists()]
    for path in sorted(kept.keys() - gone):
        result.compare(path, "sha256", kept[path], "its name", mend=f"`dvc checkout {path}` may restore it.")
    if gone:
        result.notes.append(
            f"Results were made with changes that are neither committed nor kept any more: {', '.join(map(str, gone))}."
        )


def _check_checkpoints(result: Inspection, artefact: Artefact) -> None:
    """Find scores of another agent than the one that is there."""
    address = places.address(artefact.folder)
    if address is None or address[0] not in ("agent", "scores"):
        return
    agent = places.agent(**address[1]) / "agent.safetensors"
    result.hash([(agent, "sha256")])
    for path in (artefact.folder / name for name in SCORES if name in artefact.sha256):
        if not result.has_problem(path):
            rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
            for expected in sorted({str(row["checkpoint_sha256"]) for row in rows}):
                _stands_on(result, path, agent, expected)


def _stands_on(result: Inspection, reader: Path, path: Path, expected: str) -> None:
    """Add a problem unless an input has the hash that its reader noted; damage to the input itself is told once."""
    found = result.hashes.get((path, "sha256"))
    if found == expected or result.has_problem(path):
        return
    now = "which is missing" if found is None else f"which now has {found[:12]}"
    finding = f"{reader} stands on {path} with sha256 {expected[:12]}, {now}."
    result.add(reader, "outdated", finding, ANEW, expected=expected, found=found)


def _locked(
    result: Inspection, study: Study, *, is_reported: bool
) -> tuple[dict[Path, str], dict[Path, str]]:
    """Return the md5 of each file of a study that `dvc.lock` names, and of each copy that DVC's cache should have."""
    versions = result.versions
    locked: dict[Path, str] = {}
    for output in versions.outputs if versions else ():
        assert versions is not None
        if output.parts[1:2] == (study.scale,) or (is_reported and output.is_relative_to(places.REPORTS)):
            files = versions.files(output)
            locked |= files or {}
            if files is None:
                _tell_unlisted(result, output, versions)
    return locked, {versions.copy_of(md5): md5 for md5 in locked.values()} if versions else {}


def _tell_unlisted(result: Inspection, output: Path, versions: Versions) -> None:
    """Tell why the files of an output are not known: its listing is damaged, or not in the cache."""
    listing = versions.copy_of(versions.outputs[output])
    if listing.exists():
        result.add(listing, "md5", f"{listing} is damaged: it does not have the md5 of its name.", COPY)
    else:
        result.notes.append(f"{output} was not held against {LOCK}: DVC's cache does not list it.")


def _check_locked(result: Inspection, locked: Mapping[Path, str], *, vouched: set[Path]) -> None:
    """Hold files against `dvc.lock`: one that its manifest vouches for may be newer, another one is damaged."""
    newer = 0
    for path, md5 in locked.items():
        if path in vouched and not result.has_problem(path):
            newer += result.hashes.get((path, "md5")) != md5
        else:
            result.compare(path, "md5", md5, str(LOCK))
    if newer:
        result.notes.append(f"{newer} files are newer than {LOCK}; `dvc repro` takes them in.")


def _note_other_configurations(result: Inspection, artefacts: Iterable[Artefact], study: Study) -> None:
    """Note how many artefacts, though whole, were made from another configuration or code than the present."""
    others = [a for a in artefacts if planned_digest(a.folder, study.overrides) not in (None, a.digest)]
    if others:
        result.notes.append(
            f"{len(others)} artefacts were made from another configuration or code; `snakemake -n` tells what is planned."
        )


def _folders_of(path: Path) -> list[Path]:
    """Return the folders of the artefacts in, under or around a path."""
    around = [folder for folder in (path, *path.parents) if (folder / MANIFEST).is_file()][:1]
    under = [manifest.parent for manifest in path.rglob(MANIFEST)] if path.is_dir() else []
    found = [folder for folder in around + under if ".corrupt-" not in folder.as_posix()]
    if not found:
        raise ConfigError(
            f"{path} holds no artefact and belongs to none (no {MANIFEST}). Name one under results/."
        )
    return found


def _put_aside(problem: Problem) -> Problem:
    if problem.reason not in IN_ITSELF or not problem.path.exists():
        return problem
    return replace(problem, aside=storage.set_aside(problem.path, problem.reason).name)


def _hashes(file: tuple[Path, list[str]]) -> dict[tuple[Path, str], str]:
    """Return a file's hashes of one or two kinds, from one reading; none if it cannot be read."""
    path, kinds = file
    hashes = [hashlib.new(kind) for kind in kinds]
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK):
                for found in hashes:
                    found.update(chunk)
    except OSError:
        return {}
    return {(path, kind): found.hexdigest() for kind, found in zip(kinds, hashes, strict=True)}


def _default_study() -> str:
    text = (params.PARAMS / "workflow.yaml").read_text(encoding="utf-8")
    return str(yaml.safe_load(text)["study"])


def _plain(result: Inspection) -> dict[str, Any]:
    """Return the result as JSON-able data."""
    return {
        "is_whole": not result.problems,
        "summary": result.summary(),
        "num_files": len(result.files),
        "problems": [{**asdict(problem), "path": str(problem.path)} for problem in result.problems],
        "notes": result.notes,
    }
