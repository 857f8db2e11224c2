"""Where artefacts live: addressed by what determines them, so that variants share pretraining.

Every function takes plain names or Snakemake wildcards such as `{game}`.
"""

from pathlib import Path

DATA = Path("data")
RESULTS = Path("results")
REPORTS = Path("reports")
RESUME = Path("resume")


def recording(scale: str, game: str, seed: int | str, kind: str = "safetensors.zst") -> Path:
    """Return the file of recorded episodes of a game, or (`kind`) what is recorded of making it."""
    return DATA / scale / game / f"seed-{seed}.{kind}"


def tokenizer(scale: str, tokenizer: str, corpus: str, game: str, seed: int | str) -> Path:
    """Return the folder of a pretrained tokenizer."""
    return RESULTS / scale / "tokenizers" / tokenizer / corpus / game / f"seed-{seed}"


def world_model(
    scale: str, world_model: str, tokenizer: str, corpus: str, game: str, seed: int | str
) -> Path:
    """Return the folder of a pretrained world model."""
    return RESULTS / scale / "world_models" / world_model / tokenizer / corpus / game / f"seed-{seed}"


def agent(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of a trained agent."""
    return RESULTS / scale / "agents" / variant / game / f"seed-{seed}"


def scores(scale: str, variant: str, game: str, seed: int | str) -> Path:
    """Return the folder of an agent's final scores."""
    return RESULTS / scale / "scores" / variant / game / f"seed-{seed}"


def random_play(scale: str, game: str, seed: int | str) -> Path:
    """Return the folder of random play's scores."""
    return RESULTS / scale / "random_play" / game / f"seed-{seed}"


def study(scale: str, study: str) -> Path:
    """Return the folder of a study's aggregates."""
    return RESULTS / scale / "studies" / study


def resume(stage: str, digest: str) -> Path:
    """Return the undeclared folder that a stopped stage goes on from."""
    return RESUME / f"{stage}-{digest}"


def weights(folder: Path | str, kind: str) -> list[str]:
    """Return what a rule needs of an artefact: its weights, and the manifest that vouches for them."""
    return [f"{folder}/{kind}.safetensors", f"{folder}/manifest.json"]


RECORDING_KINDS = ("safetensors.zst", "cost.json", "provenance.json")
# The files of each artefact, its manifest included. Snakemake's rules, DVC and the stages use the same lists.
_RECORDS = ("params.yaml", "cost.json", "provenance.json", "manifest.json")
TOKENIZER_FILES = ("tokenizer.safetensors", "metrics.jsonl", *_RECORDS)
WORLD_MODEL_FILES = ("world_model.safetensors", "metrics.jsonl", *_RECORDS)
AGENT_FILES = (
    "agent.safetensors",
    "metrics.jsonl",
    "timings.jsonl",
    "curve.csv",
    "reconstructions.safetensors",
    *_RECORDS,
)
SCORES_FILES = ("scores.csv", *_RECORDS)
STUDY_FILES = ("summary.json", "scores.csv")
