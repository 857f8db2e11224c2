"""Made-up studies with plausible scores, so that a report can be built without training anything.

Nothing here is a result: a run's score is drawn around the mean and with the spread of IRIS's published runs.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from irisflow.statistics.episode_score import EpisodeScore
from irisflow.statistics.provenance import job_record
from irisflow.statistics.reference import possible_range, published, reference
from irisflow.statistics.scores import Run
from irisflow.statistics.study import StudyDescription, VariantDescription
from irisflow.statistics.world_model import Confusions, Measured

QUESTIONS = {
    "iris": "IRIS as published: the arm that all others are compared with.",
    "fsq": "Does finite scalar quantization replace the learned codebook?",
    "parallel": "Can one pass predict all tokens of a frame?",
    "pretrained_tokenizer": "Does a tokenizer pretrained on recorded play help?",
    "retnet": "Does retention replace attention?",
}


AXES = {
    "fsq": "quantizer",
    "parallel": "prediction",
    "pretrained_tokenizer": "initialization",
    "retnet": "backbone",
}


def with_axes(description: StudyDescription) -> StudyDescription:
    """Return the study with what each variant changes."""
    variants = [
        replace(
            variant,
            axis=AXES.get(variant.name, "quantizer"),
            changes=(("tokenizer.name", "iris", variant.name), ("tokenizer.levels", None, "[8, 8, 8]")),
        )
        if variant.name != "iris"
        else replace(variant, axis="baseline")
        for variant in description.variants
    ]
    return replace(description, variants=tuple(variants))


def study(
    *, games: tuple[str, ...], num_variants: int, num_seeds: int, scale: str = "quick", episodes: int = 5
) -> StudyDescription:
    """Return a study's description, clearly named synthetic."""
    more = {
        f"quantizer_number_{i}": "One of many arms, to see that tables hold them" for i in range(num_variants)
    }
    questions = {**QUESTIONS, **more}
    variants = [VariantDescription(name, question) for name, question in questions.items()][:num_variants]
    return StudyDescription(
        name=f"synthetic-{len(games)}x{num_seeds}x{num_variants}",
        title="Synthetic study (made-up scores)",
        scale=scale,
        scale_note=f"Scale {scale}: synthetic scores, no agent was trained",
        games=games,
        variants=tuple(variants),
        baseline="iris",
        seeds=tuple(range(num_seeds)),
        num_evaluation_episodes=episodes,
        bootstrap_reps=500,
        full_protocol=scale == "full",
        configuration=tuple((f"training.part_{index:03d}.setting", "0.0001") for index in range(170)),
    )


def _typical(game: str) -> tuple[float, float]:
    """Return mean and spread of a run's score."""
    if game in (iris := published("IRIS")):
        return float(iris[game].mean()), float(iris[game].std(ddof=1)) + 1e-3
    scale = reference(game)
    return (0.3, 0.2) if scale is None else (scale.random + 0.6 * (scale.best - scale.random), 0.1)


def episodes_of(
    description: StudyDescription, *, shifts: dict[str, float] | None = None, num_evaluations: int = 8
) -> list[EpisodeScore]:
    """Return final and curve rows of every run; `shifts` adds normalised score to a variant."""
    rows = []
    for name in description.variant_names:
        for game in description.games:
            for seed in description.seeds:
                rows += _run(
                    description, Run(name, game, seed), (shifts or {}).get(name, 0.0), num_evaluations
                )
    return rows


def _run(description: StudyDescription, run: Run, shift: float, num_evaluations: int) -> list[EpisodeScore]:
    rng = np.random.default_rng([run.seed, *f"{run.variant}/{run.game}".encode()])
    mean, spread = _typical(run.game)
    scale = reference(run.game)
    start = scale.random if scale else 0.0
    span = scale.best - scale.random if scale else 1.0
    skill = mean + rng.normal(0, spread) + shift * span
    pretraining = 20_000 if "pretrained" in run.variant else 0
    steps = [100_000 * (index + 1) // num_evaluations for index in range(num_evaluations)]
    rows = []
    for step in [step for step in steps if step > pretraining]:
        level = start + (skill - start) * (1 - np.exp(-4 * step / 100_000))
        rows += _episodes(run, "curve", step, pretraining, level + rng.normal(0, 0.3 * spread), 2, rng)
    return rows + _episodes(
        run, "final", 100_000, pretraining, skill, description.num_evaluation_episodes, rng
    )


def _episodes(
    run: Run, split: str, step: int, pretraining: int, level: float, count: int, rng: np.random.Generator
) -> list[EpisodeScore]:
    low, high = possible_range(run.game) or (-np.inf, np.inf)
    noise = 0.1 * (abs(level) + 1)
    return [
        EpisodeScore(
            variant=run.variant,
            axis="synthetic",
            game=run.game,
            seed=run.seed,
            split=split,
            env_step=step,
            pretraining_env_steps=pretraining,
            frames=4 * step,
            episode=episode,
            return_raw=float(np.clip(level + rng.normal(0, noise), low, high)),
            length=int(rng.integers(100, 4000)),
            truncated=False,
            eval_seed=1000 + episode,
            temperature=0.5,
            epsilon=0.0,
            sticky=0.0,
            full_action_set=False,
            checkpoint_sha256="0" * 64,
            run_id="-".join(map(str, run)),
        )
        for episode in range(count)
    ]


def random_play_of(description: StudyDescription, *, num_seeds: int = 20) -> list[EpisodeScore]:
    """Return the episodes of random play: around the reference score of random play, or 0."""
    rows = []
    for game in description.games:
        scale = reference(game)
        for seed in range(num_seeds):
            rng = np.random.default_rng([seed, *f"random/{game}".encode()])
            run = Run("random", game, seed)
            level = scale.random if scale else 0.0
            rows += _episodes(run, "final", 0, 0, level, description.num_evaluation_episodes, rng)
    return rows


def costs_of(description: StudyDescription) -> list[dict[str, Any]]:
    """Return one cost record per stage job."""
    records = []
    for name in description.variant_names:
        for game in description.games:
            for seed in description.seeds:
                rng = np.random.default_rng([seed, *f"{name}/{game}".encode()])
                for stage, seconds, steps in (("train_agent", 9000.0, 100_000), ("evaluate", 300.0, 20_000)):
                    is_training = stage == "train_agent"
                    records.append(
                        {
                            "stage": stage,
                            "variant": name,
                            "game": game,
                            "seed": seed,
                            "run_id": f"{name}-{game}-{seed}",
                            "wall_s": seconds * float(rng.uniform(0.9, 1.2)),
                            "env_steps": steps,
                            "num_updates": {
                                "tokenizer": 119_000,
                                "world_model": 115_000,
                                "actor_critic": 110_000,
                            }
                            if is_training
                            else {},
                            "peak_rss_mb": float(rng.uniform(3000, 3500)),
                            **(_starts_of(seed) if is_training else {}),
                            "device": "cpu",
                            "parameters": {
                                "tokenizer": 7_600_000,
                                "world_model": 7_900_000,
                                "actor_critic": 6_600_000,
                            }
                            if is_training
                            else None,
                        }
                    )
    for game in description.games:
        records.append(
            {
                **records[1],
                "stage": "collect",
                "variant": None,
                "game": game,
                "run_id": f"collect-{game}",
                "wall_s": 40.0,
                "num_updates": {},
                "parameters": None,
            }
        )
    return records


def _starts_of(seed: int) -> dict[str, int]:
    """Return the counts of a training: the one with seed 1 was interrupted once, and died once."""
    again = int(seed == 1)
    return {
        "num_starts": 1 + 2 * again,
        "num_resumes": again,
        "num_interrupted": again,
        "num_died": again,
    }


def jobs_of(description: StudyDescription) -> list[dict[str, Any]]:
    """Return what is told of each job of a run."""
    sources = {(source["stage"], *_names_in(source)): source for source in provenance_of(description)}
    jobs = []
    for cost in costs_of(description):
        key = (cost["stage"], cost["variant"], cost["game"], f"seed-{cost['seed']}")
        if key in sources:
            folder = f"results/synthetic/{cost['stage']}/{cost['variant']}/{cost['game']}/seed-{cost['seed']}"
            jobs.append(
                job_record(folder, cost, sources[key], outputs={"params.yaml": "cd" * 32}, about={"seed": 0})
            )
    return jobs


def _names_in(source: dict[str, Any]) -> list[str]:
    """Return variant, game and seed of a record, whose inputs name them."""
    return next(iter(source["inputs"])).split("/")[3:6]


def provenance_of(description: StudyDescription) -> list[dict[str, Any]]:
    """Return one provenance record per training job."""
    return [
        {
            "stage": stage,
            "digest": f"{len(stage):02d}{len(name):02d}5ea1c0de",
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "branch": "main",
            "dirty": False,
            "versions": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6", "rliable": "1.2.0"},
            "hardware": {"processor": "Synthetic CPU", "cores": 2},
            "computing": {"device": "cpu", "torch_threads": 1},
            "seeds": {"train": seed, "evaluation": "1000 + episode"},
            "inputs": {f"results/synthetic/agents/{name}/{game}/seed-{seed}/agent.safetensors": "ab" * 32},
            "command": "snakemake --cores 2 reports/summary.pdf",
        }
        for stage in ("train_agent", "evaluate")
        for name in description.variant_names
        for game in description.games
        for seed in description.seeds
    ]


def metrics_of(description: StudyDescription) -> dict[Run, list[dict[str, float]]]:
    """Return falling losses of every run."""
    metrics = {}
    for name in description.variant_names:
        for game in description.games:
            for seed in description.seeds:
                rng = np.random.default_rng([seed, *f"{name}/{game}".encode()])
                metrics[Run(name, game, seed)] = [
                    {
                        "epoch": epoch,
                        "env_steps": 5000 * epoch,
                        **{
                            f"{part}/train/total": float(np.exp(-epoch / 6) + 0.1 * rng.random())
                            for part in ("tokenizer", "world_model", "actor_critic")
                        },
                    }
                    for epoch in range(1, 21)
                ]
    return metrics


PHASE_SECONDS = {
    "collect": 9.0, "tokenizer": 61.0, "world_model": 97.0, "actor_critic": 210.0, "evaluate": 14.0, "checkpoint": 1.6,
}  # fmt: skip
RATES = {
    "collect": {"steps_per_s": 22.0},
    "tokenizer": {"updates_per_s": 3.3, "frames_per_s": 840.0},
    "world_model": {"updates_per_s": 2.1, "frames_per_s": 2690.0},
    "actor_critic": {"updates_per_s": 0.95, "frames_per_s": 1220.0},
    "evaluate": {"steps_per_s": 121.0},
}


def timings_of(description: StudyDescription, *, has_gpu: bool = False) -> dict[Run, list[dict[str, float]]]:
    """Return what the phases of twenty epochs of every run took; every fifth has an evaluation."""
    timings = {}
    for index, name in enumerate(description.variant_names):
        for game in description.games:
            for seed in description.seeds:
                rng = np.random.default_rng([seed, *f"{name}/{game}/timings".encode()])
                timings[Run(name, game, seed)] = [
                    {"epoch": epoch, **_timed(rng, epoch, 1.1 - 0.05 * index, has_gpu)}
                    for epoch in range(1, 21)
                ]
    return timings


def _timed(rng: np.random.Generator, epoch: int, pace: float, has_gpu: bool) -> dict[str, float]:
    row: dict[str, float] = {}
    for phase, seconds in PHASE_SECONDS.items():
        if phase == "evaluate" and epoch % 5:
            continue
        noise = float(rng.uniform(0.95, 1.05))
        row[f"seconds/{phase}"] = seconds * pace * noise
        row |= {f"{name}/{phase}": rate / pace / noise for name, rate in RATES.get(phase, {}).items()}
        row[f"cpu_utilisation/{phase}"] = float(rng.uniform(0.6, 1.0))
        row[f"rss_mb/{phase}"] = row[f"peak_rss_mb/{phase}"] = float(rng.uniform(2500, 3400))
        if has_gpu:
            row[f"gpu_utilisation/{phase}"] = float(rng.uniform(0.3, 0.9))
            row[f"cuda_peak_mb/{phase}"] = float(rng.uniform(4000, 9000))
    return row


def write_reconstructions(
    description: StudyDescription, folder: Path, *, num_frames: int = 6
) -> dict[tuple[str, str, int], Path]:
    """Return run -> file of frames (a gradient with a bright square) and their noisy copies."""
    paths = {}
    for name in description.variant_names:
        for game in description.games:
            rng = np.random.default_rng([*f"{name}/{game}".encode()])
            originals = np.empty((num_frames, 3, 64, 64), np.uint8)
            for index in range(num_frames):
                originals[index] = np.linspace(20, 120, 64)[:, None]
                row, column = rng.integers(8, 52, 2)
                originals[index, :, row : row + 5, column : column + 5] = 240
            noisy = originals + rng.normal(0, 8, originals.shape)
            path = folder / f"{name}-{game}.safetensors"
            save_file(
                {"originals": originals, "reconstructions": np.clip(noisy, 0, 255).astype(np.uint8)}, path
            )
            paths[name, game, description.seeds[0]] = path
    return paths


WEIGHED = (
    "psnr",
    "ssim",
    "token_accuracy",
    "changed_token_accuracy",
    "open_psnr",
    "open_ssim",
    "reward_error",
)
SHOWN = ("", "greedy", "sampled", "teacher_forced", "copy_last", "ceiling")
SNAPSHOTS = (0, 25_000, 50_000, 100_000)
CONTEXTS = {1: 19, 5: 15}


def world_model_of(description: StudyDescription) -> list[Measured]:
    """Return measurements of every run that improve with training and fade with the horizon."""
    return [
        Measured(name, game, seed, step, *row)
        for index, name in enumerate(description.variant_names)
        for game in description.games
        for seed in description.seeds
        for step in SNAPSHOTS
        for row in _measured(
            np.random.default_rng([seed, step, *f"{name}/{game}".encode()]), step, 1 - 0.25 * index
        )
    ]


def _measured(rng: np.random.Generator, step: int, talent: float) -> list[tuple[Any, ...]]:
    skill = max(0.0, talent) * (1 - np.exp(-step / 40_000)) + 0.04 * rng.random()
    level = 12 + 19 * skill
    heads = [("reward_recall", sign, 0.98 if sign == 0 else 0.7 * skill) for sign in (-1, 0, 1)]
    heads += [("reward_precision", sign, 0.9 * skill + 0.05) for sign in (-1, 0, 1)]
    heads += [("end_recall", 0, 0.999), ("end_recall", 1, 0.6 * skill)]
    scalars = [
        ("psnr", None, level), ("psnr_capped", None, 0.02), ("ssim", None, 0.3 + 0.65 * skill),
        ("small_object_recall", None, 0.9 * skill),
        ("perplexity", None, 4 + 60 * skill), ("usage", None, 0.05 + 0.4 * skill),
        ("reward_macro_f1", None, 0.33 + 0.5 * skill), ("end_average_precision", None, 0.02 + 0.7 * skill),
        ("end_base_rate", None, 0.02), ("value", None, 0.9), ("value_target", None, 0.4 + 0.5 * skill),
        ("value_error", None, 0.3), ("imagined_frame_gflop", None, 2.8), *heads,
    ]  # fmt: skip
    rows: list[tuple[Any, ...]] = [
        (metric, "", None, None, of_class, float(value), 2000) for metric, of_class, value in scalars
    ]
    rows += [
        (metric, "", None, None, of_class, float(value), n) for metric, of_class, value, n in _ends(skill)
    ]
    rows += [
        ("token_share", "", None, None, 2**power, float(2.0 ** ((power - 9) * (0.1 + 0.5 * skill))), 128_000)
        for power in range(10)
    ]  # fmt: skip
    for context, longest in CONTEXTS.items():
        for horizon in range(1, longest + 1):
            rows += [
                (metric, mode, context, horizon, None, float(value), 64)
                for metric, mode, value in _ahead(skill, level, horizon)
            ]
    return rows


def stretches_of(
    description: StudyDescription, *, num_stretches: int = 32, num_episodes: int = 9
) -> dict[Run, dict[str, np.ndarray]]:
    """Return what the stretches files of all runs hold: sums that scatter around the finished agents' measurements."""
    return {
        Run(name, game, seed): _stretches(
            np.random.default_rng([seed, SNAPSHOTS[-1], *f"{name}/{game}".encode()]),
            1 - 0.25 * index,
            num_stretches,
            num_episodes,
        )
        for index, name in enumerate(description.variant_names)
        for game in description.games
        for seed in description.seeds
    }


def _stretches(
    rng: np.random.Generator, talent: float, num_stretches: int, num_episodes: int
) -> dict[str, np.ndarray]:
    """Return the sums of a run: the same generator as for its measurements gives means that are theirs."""
    rows = _measured(rng, SNAPSHOTS[-1], talent)
    counts = {"env_step": SNAPSHOTS[-1], "num_episodes": num_episodes, "context": 1}
    found = {name: np.array([value]) for name, value in counts.items()}
    means: dict[str, list[float]] = {}
    for metric, mode, context, _, of_class, value, _ in rows:
        if of_class is None and metric in WEIGHED and context in (None, 1) and mode in SHOWN:
            means.setdefault(f"{metric}/{mode}".strip("/"), []).append(value)
    for name, values in means.items():
        weight = np.full(num_stretches if "/" not in name else (num_stretches, len(values)), 20.0, np.float32)
        noise = rng.normal(0, 0.1, weight.shape)
        scatter = 1 + noise - noise.mean(axis=0)
        found[f"sum/{name}"] = (weight * np.array(values) * scatter).astype(np.float32)
        found[f"weight/{name.partition('/')[0]}"] = weight
    return found


def _ends(skill: float) -> Iterator[tuple[str, int | None, float, int]]:
    """Yield metric, class, value and count of an end head; one without skill calls a third of all steps ends."""
    for recall in range(10, 101, 10):
        yield "end_precision", recall, 0.02 + 0.9 * skill * (1 - (recall / 100) ** 3), recall
    for bin_, predicted in enumerate((0.002, 0.018, 0.06, 0.18, 0.6)):
        share = 0.02 + (predicted - 0.02) * min(1.0, skill)
        if skill > 0.1 or bin_ == 4:
            yield "end_predicted", bin_, predicted, 1900 if bin_ == 0 else 25
            yield "end_occurred", bin_, max(0.0, share - 0.001), 1900 if bin_ == 0 else 25
    yield "end_calibration_error", None, 0.3 * max(0.0, 1 - skill), 2000


def _ahead(skill: float, level: float, horizon: int) -> list[tuple[str, str, float]]:
    """Return metric, mode and value so many frames ahead."""
    fade, rows = np.exp(-horizon / 12), []
    for mode, share in {
        "greedy": 1.0,
        "sampled": 0.9,
        "best_of_k": 1.04,
        "teacher_forced": np.exp(horizon / 12),
    }.items():
        rows += [
            ("token_accuracy", mode, 0.7 + 0.28 * skill * min(1.0, fade * share)),
            ("changed_token_accuracy", mode, 0.85 * skill * min(1.0, fade * share)),
            ("open_psnr", mode, 12 + (level - 12) * (0.25 + 0.7 * min(1.0, fade * share))),
            ("open_ssim", mode, 0.3 + 0.6 * skill * min(1.0, fade * share)),
        ]
        if mode != "teacher_forced":
            rows.append(("reward_error", mode, 0.1 * horizon * (1.2 - skill)))
    promised = {"imagined_return": 0.05 * horizon * (1.4 - 0.4 * skill), "real_return": 0.05 * horizon}
    rows += [(metric, "own_policy", value) for metric, value in promised.items()]
    return [
        *rows,
        ("token_accuracy", "copy_last", 0.95 * np.exp(-horizon / 60)), ("changed_token_accuracy", "copy_last", 0.0),
        ("open_psnr", "copy_last", 14 + 10 * fade), ("open_ssim", "copy_last", 0.4 + 0.4 * fade),
        ("reward_error", "copy_last", 0.09 * horizon), ("open_psnr", "copy_last_tokens", 12 + 10 * fade),
        ("open_psnr", "ceiling", level), ("open_ssim", "ceiling", 0.3 + 0.65 * skill),
    ]  # fmt: skip


def confusions_of(description: StudyDescription) -> dict[Run, Confusions]:
    """Return counts of rewards and ends of every run at every snapshot."""
    matrices = {"reward": [[30, 15, 5], [3, 1880, 7], [2, 18, 40]], "end": [[1955, 5], [18, 22]]}
    return {
        Run(name, game, seed): {str(step): matrices for step in SNAPSHOTS}
        for name in description.variant_names
        for game in description.games
        for seed in description.seeds
    }


def write_films(
    description: StudyDescription, folder: Path, *, horizon: int = 19
) -> dict[tuple[str, str, int], Path]:
    """Return run -> film strips: a square that moves, and one that drifts away from it; the second film ends early."""
    paths = {}
    for name in description.variant_names:
        for game in description.games:
            truth = np.full((2, horizon + 1, 3, 64, 64), 24, np.uint8)
            imagined = truth.copy()
            for film in range(2):
                for t in range(horizon + 1):
                    place = 4 + 2 * t
                    truth[film, t, :, place : place + 6, 20 + 10 * film : 28 + 10 * film] = 230
                    imagined[
                        film, t, :, place : place + 6, 20 + 10 * film + t // 3 : 28 + 10 * film + t // 3
                    ] = 210
            rng = np.random.default_rng([*f"{name}/{game}/film".encode()])
            spread = np.linspace(2, 12, 2 * horizon + 2).reshape(2, horizon + 1, 1, 1, 1)
            noisy = truth + spread * rng.normal(0, 1, truth.shape)
            mask = np.ones((2, horizon + 1), bool)
            mask[1, 8:] = False
            path = folder / f"film-{name}-{game}.safetensors"
            save_file(
                {
                    "truth": truth,
                    "reconstruction": np.clip(noisy, 0, 255).astype(np.uint8),
                    "imagination": imagined,
                    "greedy": imagined,
                    "actions": np.zeros((2, horizon), np.int64),
                    "mask": mask,
                },
                path,
            )
            paths[name, game, description.seeds[0]] = path
    return paths
