"""Where artefacts live: addressed by what determines them, so that variants share pretraining.

Every function takes plain names or Snakemake wildcards such as `{game}`.
"""

import re
from functools import cache
from inspect import isfunction, signature
from pathlib import Path

DATA = Path("data")
IMPORTED = DATA / "imported"
RESULTS = Path("results")
REPORTS = Path("reports")
RESUME = Path("resume")


def recording(scale: str, game: str, seed: int | str) -> Path:
    """Return the folder of recorded episodes of a game."""
    return DATA.joinpath(scale, game, f"seed-{seed}")


def imported(dataset: str, game: str) -> Path:
    """Return the folder of a data set's episodes of a game, which others recorded."""
    return IMPORTED / dataset / game


def tokenizer(scale: str, tokenizer: str, corpus: str, game: str, seed: int | str) -> Path:
    """Return the folder of a pretrained tokenizer."""
    return RESULTS.joinpath(scale, "tokenizers", tokenizer, corpus, game, f"seed-{seed}")


def world_model(
    scale: str, world_model: str, tokenizer: str, corpus: str, game: str, seed: int | str
) -> Path:
    """Return the folder of a pretrained world model."""
    return RESULTS.joinpath(scale, "world_models", world_model, tokenizer, corpus, game, f"seed-{seed}")


def agent(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of a trained agent."""
    return RESULTS.joinpath(scale, "agents", variant, game, f"seed-{seed}")


def scores(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of an agent's final scores."""
    return RESULTS.joinpath(scale, "scores", variant, game, f"seed-{seed}")


def random_play(scale: str, game: str, seed: int | str) -> Path:
    """Return the folder of random play's scores."""
    return RESULTS.joinpath(scale, "random_play", game, f"seed-{seed}")


def held_out(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of episodes that the agent of this variant and seed played, for measurements only."""
    return RESULTS.joinpath(scale, "held_out", variant, game, f"seed-{seed}")


def world_model_quality(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of the measurements of an agent's tokenizer and world model."""
    return RESULTS.joinpath(scale, "world_model_quality", variant, game, f"seed-{seed}")


def study(scale: str, study: str) -> Path:
    """Return the folder of a study's aggregates."""
    return RESULTS.joinpath(scale, "studies", study)


def diffs(of: str) -> Path:
    """Return the folder of the uncommitted changes with which results of a scale were made, each named by its sha256."""
    return RESULTS / of / "diffs"  # of no run: not a function of `scale`, whose folders are addresses


def address(folder: Path) -> tuple[str, dict[str, str]] | None:
    """Return the kind of artefact whose address a folder is, and the names in it; None if it is no address."""
    for kind, pattern in _patterns().items():
        if found := pattern.fullmatch(folder.as_posix()):
            return kind, found.groupdict()
    return None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return, for each kind of artefact, the pattern of its folders: a function here that begins with a scale."""
    patterns = {}
    for function in filter(isfunction, globals().values()):
        if next(iter(signature(function).parameters), None) != "scale":
            continue
        template = function(*(f"<{name}>" for name in signature(function).parameters)).as_posix()
        text = re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", re.escape(template))
        patterns[function.__name__] = re.compile(text.replace("<seed>[^/]+", "<seed>[0-9]+"))
    return patterns


def resume(stage: str, digest: str) -> Path:
    """Return the undeclared folder that a stopped stage goes on from."""
    return RESUME / f"{stage}-{digest}"


def weights(folder: Path | str, kind: str) -> list[str]:
    """Return what a rule needs of an artefact: its weights, and the manifest that vouches for them."""
    return [f"{folder}/{kind}.safetensors", f"{folder}/manifest.json"]


def recorded(folder: Path | str) -> list[str]:
    """Return what a rule needs of a recording: its episodes, and the manifest that vouches for them."""
    return [f"{folder}/{EPISODES}", f"{folder}/manifest.json"]


# The files of each artefact, its manifest included. Snakemake's rules, DVC and the stages use the same lists.
_RECORDS = ("params.yaml", "cost.json", "provenance.json", "manifest.json")
EPISODES = "episodes.safetensors.zst"
RECORDING_FILES = (EPISODES, *_RECORDS)
TOKENIZER_FILES = ("tokenizer.safetensors", "metrics.jsonl", *_RECORDS)
WORLD_MODEL_FILES = ("world_model.safetensors", "metrics.jsonl", *_RECORDS)
AGENT_FILES = (
    "agent.safetensors",
    "snapshots.safetensors",
    "metrics.jsonl",
    "timings.jsonl",
    "curve.csv",
    "reconstructions.safetensors",
    *_RECORDS,
)
SCORES_FILES = ("scores.csv", *_RECORDS)
HELD_OUT_FILES = (EPISODES, *_RECORDS)
WORLD_MODEL_QUALITY_FILES = (
    "world_model.csv",
    "confusion.json",
    "stretches.safetensors",
    "film.safetensors",
    *_RECORDS,
)
REPORT_FILES = (
    "summary.pdf",
    "summary.html",
    "summary.json",
    "metrics.json",
    "provenance.json",
    "manifest.json",
    "figures",
    "tables",
)
STUDY_FILES = ("summary.json", "scores.csv", "world_model.csv", "provenance.json", "manifest.json")
