"""What a study makes: the files of its runs and the digest of each stage. Used by the Snakefile."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from irisflow import cards, compositions, games, params, paths
from irisflow.errors import ConfigError, DataError
from irisflow.params import Choice
from irisflow.study import Study

CONFIG_KEYS = {"study": str, "scale": str, "games": list, "seeds": list, "overrides": list}

MEASURED = (
    "world_model.csv",
    "confusion.json",
    "stretches.safetensors",
)  # what is read of a world model's quality


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a `--config` key that does not exist or has a wrong type."""
    for key, value in config.items():
        if key not in CONFIG_KEYS:
            raise ConfigError(f"--config {key}: no such key. Allowed: {', '.join(CONFIG_KEYS)}.")
        wanted = CONFIG_KEYS[key]
        if not isinstance(value, wanted):
            example = f", such as --config '{key}=[...]'" if wanted is list else ""
            raise ConfigError(f"--config {key} is {value!r}; expected a {wanted.__name__}{example}.")


@dataclass(frozen=True)
class StudyPlan:
    """The artefacts that a study needs, as paths."""

    study: Study

    @cached_property
    def recordings(self) -> list[Path]:
        """Files of all recordings that some variant's pretraining reads, each once."""
        scale, corpora = self.study.scale, dict.fromkeys(filter(None, map(self._corpus, self.study.variants)))
        folders = [
            paths.recording(scale, recorded, seed)
            for corpus in corpora
            for game, seed in self._cells
            for recorded in self._corpus_games(scale, corpus, game)
        ]
        return [folder / name for folder in dict.fromkeys(folders) for name in paths.RECORDING_FILES]

    def corpus_recordings(self, *, scale: str, corpus: str, game: str, seed: str, **_: str) -> list[str]:
        """Return the episodes, and the manifests that vouch for them, of all games that a corpus holds for one game."""
        names = self._corpus_games(scale, corpus, game)
        return [file for name in names for file in paths.recorded(paths.recording(scale, name, seed))]

    def imported(self, *, scale: str, game: str, **_: str) -> list[str]:
        """Return the imported episodes that a recording is made of, if it is not played. Raises DataError if they lack."""
        recording = compositions.values(Choice(scale, overrides=tuple(self.study.overrides)))["recording"]
        if recording["dataset"] is None:
            return []
        files = paths.recorded(paths.imported(recording["dataset"], game))
        if lost := [file for file in files if not Path(file).exists()]:
            raise DataError(
                f"recording={recording['dataset']}: {lost[0]} does not exist. Import it with `irisflow import-dataset`, or"
                " restore it with `dvc checkout`."
            )
        return files

    @cached_property
    def pretrained(self) -> list[Path]:
        """Files of all pretrained tokenizers and world models, each once."""
        files = [
            file
            for variant in self.study.variants
            for game, seed in self._cells
            for file in self.initial_weights(scale=self.study.scale, variant=variant, game=game, seed=seed)
        ]
        return [Path(file) for file in dict.fromkeys(files)]

    @cached_property
    def agents(self) -> list[Path]:
        """Files of all trained agents."""
        return [paths.agent(*run) / name for run in self.runs for name in paths.AGENT_FILES]

    @cached_property
    def scores(self) -> list[Path]:
        """Files of all final scores, those of random play included."""
        agents = [paths.scores(*run) / name for run in self.runs for name in paths.SCORES_FILES]
        return agents + self.random_play

    @cached_property
    def random_play(self) -> list[Path]:
        """Files of random play's scores: as many seeds of each game as the study asks for."""
        seeds = range(self.study.random_play)
        folders = [
            paths.random_play(self.study.scale, game, seed) for game in self.study.games for seed in seeds
        ]
        return [folder / name for folder in folders for name in paths.SCORES_FILES]

    @cached_property
    def measurements(self) -> list[Path]:
        """Files of the measurements of all runs' tokenizers and world models; none if the study does not ask for them."""
        if not self._should_measure:
            return []
        folders = [paths.world_model_quality(*run) for run in self.runs]
        return [folder / name for folder in folders for name in paths.WORLD_MODEL_QUALITY_FILES]

    @property
    def films(self) -> list[Path]:
        """What the world models imagined beside what followed, one file a run."""
        return [file for file in self.measurements if file.name == "film.safetensors"]

    @property
    def held_out_files(self) -> list[Path]:
        """Files of the held-out episodes of all games, if anything is measured."""
        games = self.study.games if self._should_measure else []
        folders = [self.held_out(scale=self.study.scale, game=game) for game in games]
        return [folder / name for folder in folders for name in paths.HELD_OUT_FILES]

    def held_out(self, *, scale: str, game: str) -> Path:
        """Return the folder of the episodes that all world models of a game are measured on.

        The baseline's agent with the lowest seed played them.
        """
        return paths.held_out(scale, self.study.baseline, game, min(self.study.seeds))

    @cached_property
    def records(self) -> list[Path]:
        """What the aggregation reads: scores, curves, metrics, timings, and every stage's cost and provenance."""
        folders = [paths.agent(*run) for run in self.runs] + [paths.scores(*run) for run in self.runs]
        others = (*self.pretrained, *self.random_play, *self.held_out_files, *self.measurements)
        folders += sorted({file.parent for file in others})
        kinds = [folder / name for folder in folders for name in ("cost.json", "provenance.json")]
        kinds += [file for file in self.recordings if file.name in ("cost.json", "provenance.json")]
        curves = [paths.agent(*run) / "curve.csv" for run in self.runs]
        epochs = [
            paths.agent(*run) / name for run in self.runs for name in ("metrics.jsonl", "timings.jsonl")
        ]
        scores = [file for file in self.scores if file.name == "scores.csv"]
        measured = [file for file in self.measurements if file.name in MEASURED]
        return curves + epochs + scores + measured + kinds

    @property
    def has_lost_records(self) -> bool:
        """Whether the study was aggregated and something of what that read is gone."""
        summary = paths.study(self.study.scale, self.study.name) / "summary.json"
        return summary.exists() and not all(file.exists() for file in self.records)

    @property
    def lost_files(self) -> list[str]:
        """Files that are gone from artefacts of which others are there, as when one was set aside for its damage."""
        files = list(self.files)
        if (paths.REPORTS / "summary.pdf").exists():
            files += [paths.REPORTS / name for name in paths.REPORT_FILES]
        return [str(file) for file in files if file.parent.exists() and not file.exists()]

    @cached_property
    def files(self) -> list[Path]:
        """All files that the report stands on, each once."""
        folder = paths.study(self.study.scale, self.study.name)
        parts = {"tokenizer": paths.TOKENIZER_FILES, "world_model": paths.WORLD_MODEL_FILES}
        pretrained = [
            file.parent / name for file in self.pretrained if file.stem in parts for name in parts[file.stem]
        ]
        measured = [*self.held_out_files, *self.measurements]
        files = [*self.recordings, *pretrained, *self.agents, *self.scores, *measured, *self.records]
        return list(dict.fromkeys([*files, *(folder / name for name in paths.STUDY_FILES)]))

    @property
    def runs(self) -> list[tuple[str, str, str, int]]:
        """All runs: scale, variant, game, seed."""
        scale, names = self.study.scale, self.study.variants
        return [(scale, variant, game, seed) for variant in names for game, seed in self._cells]

    @cached_property
    def reconstructions(self) -> list[Path]:
        """Frames beside their reconstructions, one file a run."""
        return [paths.agent(*run) / "reconstructions.safetensors" for run in self.runs]

    def initial_weights(self, *, scale: str, variant: str, game: str, seed: int | str) -> list[str]:
        """Return the weights and manifests of the pretrained parts that a run starts from."""
        start = _start(Choice(scale, variant=variant, overrides=tuple(self.study.overrides)))
        made_for = games.corpus_address(start.corpus, game)
        files: list[str] = []
        if "tokenizer" in start.pretrained:
            folder = paths.tokenizer(scale, start.tokenizer, start.corpus, made_for, seed)
            files += paths.weights(folder, "tokenizer")
        if "world_model" in start.pretrained:
            folder = paths.world_model(
                scale, start.world_model, start.tokenizer, start.corpus, made_for, seed
            )
            files += paths.weights(folder, "world_model")
        return files

    def num_threads(self, *, scale: str) -> int:
        """Return with how many threads a job at this scale computes."""
        return _num_threads(Choice(scale, overrides=tuple(self.study.overrides)))

    def num_gpu_slots(self, *, scale: str) -> int:
        """Return how many of the profile's `gpu` slots a job at this scale takes."""
        values = compositions.values(Choice(scale, overrides=tuple(self.study.overrides)))
        return cards.num_slots(values["common"]["device"])

    def check_names(self, *, game: str, seed: str, **groups: str) -> None:
        """Raise ConfigError unless the game (`any` for a pool), and the file of `params/` that each group names, exist."""
        del seed  # digits, by the wildcard's constraint
        for group, name in groups.items():
            _checked_choice(group, name)
        _checked_game(game, groups.get("corpus"))

    def digest(self, stage: str, *, scale: str, game: str, seed: str, **groups: str) -> str:
        """Return the digest of what a stage reads for one game and seed; `groups` name variant, tokenizer, ..."""
        choice = Choice(scale, overrides=tuple(self.study.overrides), **groups)
        return compositions.planned_digest(stage, choice, game, int(seed))

    def study_digest(self, stage: str) -> str:
        """Return the digest of what `aggregate` or `report` reads of the study itself."""
        return params.digest_of_values(stage, study_values(self.study, stage))

    @property
    def _should_measure(self) -> bool:
        values = compositions.values(self.study.choice(self.study.baseline))
        return bool(values["evaluation"]["world_model_quality"]["should"])

    @property
    def _cells(self) -> list[tuple[str, int]]:
        return [(game, seed) for game in self.study.games for seed in self.study.seeds]

    def _corpus(self, variant: str) -> str | None:
        """Return the corpus that a variant's parts are pretrained on, or None if none is pretrained."""
        start = _start(self.study.choice(variant))
        return start.corpus if start.pretrained else None

    def _corpus_games(self, scale: str, corpus: str, game: str) -> list[str]:
        choice = Choice(scale, corpus=corpus, overrides=tuple(self.study.overrides))
        chosen = compositions.values(choice)["corpus"]
        return games.corpus_games(chosen["name"], chosen["games"], game)


# A plan asks for these few thousands of times, once a job; reading a composed configuration or a folder takes long.


@dataclass(frozen=True)
class Start:
    """What a variant's runs start from: the names of its parts, and which of them are pretrained."""

    tokenizer: str
    world_model: str
    corpus: str
    pretrained: tuple[str, ...]


@cache
def _start(choice: Choice) -> Start:
    values = compositions.values(choice)
    parts = ("tokenizer", "world_model")
    pretrained = tuple(part for part in parts if values["initialization"][part] == "pretrained")
    tokenizer, world_model, corpus = (str(values[part]["name"]) for part in (*parts, "corpus"))
    return Start(tokenizer, world_model, corpus, pretrained)


@cache
def _num_threads(choice: Choice) -> int:
    return int(compositions.values(choice)["common"]["num_threads"])


@cache
def _checked_choice(group: str, name: str) -> str:
    return params.check_choice(group, name)


@cache
def _checked_game(game: str, corpus: str | None) -> str:
    return games.check_run_game(game, corpus=corpus)


def study_values(study: Study, stage: str) -> dict[str, Any]:
    """Return the keys of a study that `aggregate` or `report` reads."""
    if stage == "report":
        return {"name": study.name, "scale": study.scale, "title": study.title}
    composed = {variant: compositions.values(study.choice(variant)) for variant in study.variants}
    baseline = composed[study.baseline]
    return {
        "name": study.name,
        "scale": study.scale,
        "scale_note": baseline["scale"]["note"],
        "games": study.games,
        "variants": {name: values["variant"] for name, values in composed.items()},
        "baseline": study.baseline,
        "seeds": study.seeds,
        "random_play": study.random_play,
        "world_model_quality": baseline["evaluation"]["world_model_quality"]["should"],
        "bootstrap_reps": study.statistics.bootstrap_reps,
    }
