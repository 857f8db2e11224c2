"""A small study on disk whose artefacts are as the stages publish them, made in milliseconds instead of trained."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from irisflow import paths
from irisflow.identity import planned_digest
from irisflow.statistics.episode_score import EpisodeScore, to_csv
from irisflow.storage import MANIFEST, json_bytes, manifest_bytes, publish, sha256_of
from irisflow.study import Study, load_study
from irisflow.workflow import StudyPlan

REPORT = ("summary.pdf", "summary.html", "summary.json", "figures/F1.svg")
RECORDS = ("params.yaml", "cost.json", "provenance.json")


def publish_study() -> Study:
    """Publish all that the study `smoke` makes, its report included, under the working directory; return the study."""
    study = load_study("smoke")
    plan = StudyPlan(study)
    for folder in dict.fromkeys(file.parent for file in plan.files):
        _publish(folder, plan, study)
    for name in REPORT:
        path = paths.REPORTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_bytes(path, 300))
    sha256 = {name: sha256_of(paths.REPORTS / name) for name in REPORT}
    inputs = _hashed([paths.study("smoke", "smoke") / "summary.json", *plan.reconstructions])
    about = {"study": study.name, "scale": study.scale, "inputs": inputs}
    (paths.REPORTS / MANIFEST).write_bytes(manifest_bytes("report", "d" * 16, about, sha256))
    return study


def _publish(folder: Path, plan: StudyPlan, study: Study) -> None:
    kind, names = paths.address(folder) or ("", {})
    listed = paths.SCORES_FILES if kind == "random_play" else getattr(paths, f"{kind.upper()}_FILES")
    files = {name: _bytes(folder / name, 200) for name in listed if name != MANIFEST}
    agent = paths.agent(**names) / "agent.safetensors" if kind in ("agent", "scores") else None
    if agent is not None:
        sha256 = hashlib.sha256(_bytes(agent, 200)).hexdigest()
        table = "curve.csv" if kind == "agent" else "scores.csv"
        files[table] = to_csv(
            [row(checkpoint_sha256=sha256, variant=names["variant"], game=names["game"])]
        ).encode()
    inputs = {"scores": [agent], "study": plan.records}.get(kind, [])
    files["provenance.json"] = json_bytes({"stage": kind, "inputs": _hashed(inputs)})
    digest = planned_digest(folder, study.overrides) or "d" * 16
    about = {name: int(value) if name == "seed" else value for name, value in names.items()}
    publish(folder, files, kind=kind, digest=digest, about=about)


def row(**changes: Any) -> EpisodeScore:
    """Return a valid score, changed."""
    plain = EpisodeScore(
        "iris", "", "Pong", 0, "final", 100, 0, 400, 0, -20.0, 800, False, 7, 0.5, 0.0, 0.0, False, "ab", "r0"
    )
    return plain._replace(**changes)


def _bytes(path: Path, count: int) -> bytes:
    """Return bytes that depend on the path only."""
    seed = int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:8], "little")
    return np.random.default_rng(seed).bytes(count)


def _hashed(files: list[Any]) -> dict[str, str]:
    return {str(file): sha256_of(file) for file in files}
