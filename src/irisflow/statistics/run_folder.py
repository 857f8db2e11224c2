"""The folder of a run by hand, read for a comparison: its last evaluation, and what it wrote down while it trained."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irisflow.errors import ConfigError, DataError
from irisflow.games import TOY
from irisflow.statistics.configuration import settings_of
from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.inputs import read_metrics, read_timings
from irisflow.statistics.records import Records, RunRecords, read_job
from irisflow.statistics.scores import Run
from irisflow.storage import MANIFEST, Artefact, open_artefact, verify

EVALUATION, TRAINER, EPISODES = Path("evaluation/last.json"), Path("config/trainer.yaml"), "episodes.jsonl"
JOB = ("cost.json", "provenance.json")
WRITTEN = ("metrics.jsonl", "timings.jsonl", "reconstructions.safetensors", *JOB)
MEND = "Evaluate the run again."


@dataclass(frozen=True)
class RunFolder:
    """What a run's folder says. `evaluation` is what `scripts/eval.py` found, `settings` the whole configuration."""

    path: Path
    settings: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @property
    def cells(self) -> list[str]:
        """Variant, game, seed and mean return, not checked."""
        found = self.evaluation
        return [str(self.settings["variant"]["name"]), *(str(found[key]) for key in ("game", "seed", "mean"))]

    @property
    def configuration(self) -> dict[str, str]:
        """The configuration by dotted keys."""
        return dict(settings_of(self.settings))

    @property
    def agent(self) -> Artefact | None:
        """The agent that was evaluated; None where it is not there, or training went on since."""
        folder = self.path / "checkpoints/last"
        if not (folder / MANIFEST).is_file():
            return None
        agent = open_artefact(folder, kind="agent")
        is_same = self.evaluation.get("agent_sha256") == agent.sha256.get("agent.safetensors")
        return agent if is_same else None


def read_run_folder(path: Path) -> RunFolder:
    """Return what a run's folder says. Raises ConfigError where it was not evaluated, DataError where it cannot be read."""
    file = path / EVALUATION
    if not file.is_file():
        raise ConfigError(
            f"compare: {path} has no {EVALUATION}. Evaluate it first: `python scripts/eval.py` in it."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        folder = RunFolder(path, yaml.safe_load((path / TRAINER).read_text(encoding="utf-8")), found)
        folder.cells  # noqa: B018  (raises where one of them is missing)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read ({error}). {MEND}") from None
    return folder


def records_of(agent: Artefact, run: Run) -> Records:
    """Return what lies beside a run's agent; an imported one has only some of it. Raises DamageError for what is damaged."""
    there = {name: agent.folder / name for name in WRITTEN if name in agent.sha256}
    for file in there.values():
        verify(file)
    own = RunRecords(
        metrics=read_metrics(there["metrics.jsonl"]) if "metrics.jsonl" in there else None,
        timings=read_timings(there["timings.jsonl"]) if "timings.jsonl" in there else None,
        reconstructions=there.get("reconstructions.safetensors"),
    )
    has_job = all(name in there for name in JOB)
    if not has_job:
        return Records((), {run: own})
    job = read_job(agent.folder, place=str(agent.folder), diff_root=agent.folder.parents[1])
    return Records((job,), {run: own})


def episodes_of(folder: RunFolder, agent: Artefact, run: Run) -> list[EpisodeScore]:
    """Return the episodes of the last evaluation, and those of evaluations while training.

    None of an agent that was imported: how far its training was is not known. Raises DataError naming file and key.
    """
    if "metrics.jsonl" not in agent.sha256 or "returns" not in folder.evaluation:
        return []
    try:
        return [*_final(folder, agent, run), *_curve(folder, agent, run)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder.path}: its episodes cannot be read ({error!r}). {MEND}") from None


def _final(folder: RunFolder, agent: Artefact, run: Run) -> Iterator[EpisodeScore]:
    found = folder.evaluation
    played = zip(found["returns"], found["lengths"], found["truncated"], strict=True)
    for index, (score, length, truncated) in enumerate(played):
        step = int(found["env_steps"])
        yield _episode(folder, agent, run, "final", step, index, (score, length, truncated))


def _curve(folder: RunFolder, agent: Artefact, run: Run) -> Iterator[EpisodeScore]:
    """Yield test episodes by the steps at the ends of their epochs. Episodes of other kinds are not played to be scored."""
    ends = {int(row["epoch"]): int(row["env_steps"]) for row in read_metrics(agent.folder / "metrics.jsonl")}
    label, counts = str(folder.settings["datasets"]["test"]["name"]), dict.fromkeys(ends, 0)
    for line in (folder.path / EPISODES).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["dataset"] == label and row["epoch"] in ends:
            epoch = int(row["epoch"])
            played = (row["episode_return"], row["episode_length"], row["truncated"])
            yield _episode(folder, agent, run, "curve", ends[epoch], counts[epoch], played)
            counts[epoch] += 1


def _episode(
    folder: RunFolder,
    agent: Artefact,
    run: Run,
    split: str,
    own_steps: int,
    index: int,
    played: tuple[float, int, bool],
) -> EpisodeScore:
    """Return one episode (return, length, truncated); the seed of its game was not written down: it is that of the run."""
    is_final = split == "final"
    protocol = folder.evaluation if is_final else folder.settings["collection"]["test"]["config"]
    earlier = int(agent.about["pretraining_env_steps"])
    frames_per_step = 1 if run.game in TOY else int(folder.settings["env"]["train"]["frame_skip"])
    score, length, truncated = played
    return EpisodeScore(
        variant=run.variant,
        axis=str(folder.settings["variant"]["axis"]),
        game=run.game,
        seed=run.seed,
        split=split,
        env_step=own_steps + earlier,
        pretraining_env_steps=earlier,
        frames=(own_steps + earlier) * frames_per_step,
        episode=index,
        return_raw=float(score),
        length=int(length),
        truncated=bool(truncated),
        eval_seed=run.seed,
        temperature=float(protocol["temperature"]),
        epsilon=float(protocol["epsilon"]),
        sticky=0.0,
        full_action_set=False,
        checkpoint_sha256=agent.sha256["agent.safetensors"],
        run_id=str(folder.path),
    )
