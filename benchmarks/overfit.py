"""Can every tokenizer and every world model learn eight segments of Breakout by heart? One that cannot is broken.

    python benchmarks/overfit.py                      # all of them, into docs/results/overfit/
    python benchmarks/overfit.py --only fsq retnet    # these only, printed

Each is built as `params/` has it at scale `small`, trained on one fixed batch of real frames with dropout off, and measured
on that batch: a tokenizer by the PSNR of its reconstructions, a world model by the cross-entropy of the frame tokens that
the tokenizer `iris`, trained here in the same way, makes of the frames.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from irisflow import params, provenance
from irisflow.checkout import git_state
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.make import make_environment
from irisflow.errors import DivergedError
from irisflow.evaluation.image_quality import psnr
from irisflow.params import Choice
from irisflow.progress import progress
from irisflow.randomness import seed_everything
from irisflow.records import Batch, Loss
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.losses import encoded
from irisflow.training.optim import tokenizer_optimizer, world_model_optimizer
from irisflow.training.pretrain import as_replay
from irisflow.training.update import Component
from irisflow.world_model.world_model import build_world_model

SCALE, GAME = "small", "Breakout"
NUM_SEGMENTS, NUM_STEPS = 8, 4
NUM_UPDATES, LEARNING_RATE = 300, 2e-3
# A pretrained encoder that normalises after each sum falls apart at the others' learning rate.
LEARNING_RATES = {"minilm": 3e-4}
# Half of what moves it is a discriminator's, by VQGAN's adaptive weight: it draws what looks real, not what lies nearest.
OWN_BOUNDS = {"loss_gan": 20.0}
BOUNDS = {"tokenizer": 25.0, "world_model": 0.1}  # PSNR in dB, at least; cross-entropy in nats, at most
FOLDER = Path(__file__).parents[1] / "docs/results/overfit"
GAME_CHOSEN = f"env.train.id={GAME}"
WITHOUT_DROPOUT = ("scale.world_model.dropout=0.0",)


@dataclass(frozen=True)
class Row:
    """What a tokenizer (PSNR in dB) or a world model (nats a token) came to, from its start."""

    part: str
    name: str
    parameters: int
    start: float
    end: float
    bound: float
    has_learned: bool
    cpu_ms_per_update: float


def main() -> int:
    """Measure, print and write; 1 if something did not learn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", help="names of tokenizers and world models; prints only")
    parser.add_argument("--updates", type=int, default=NUM_UPDATES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in measured(options.only, num_updates=options.updates):
        rows.append(row)
        sys.stdout.write(f"{row.part:<12} {row.name:<28} {row.start:8.3f} -> {row.end:8.3f}  ")
        sys.stdout.write(
            f"{'ok' if row.has_learned else 'BROKEN'}  {row.cpu_ms_per_update:.0f} ms of CPU time an update\n"
        )
        sys.stdout.flush()
        if options.only is None:
            write(
                rows, num_updates=options.updates
            )  # after each, so that a run that was stopped leaves what it had
    return int(not all(row.has_learned for row in rows))


def measured(only: list[str] | None, *, num_updates: int) -> Iterator[Row]:
    """Yield a row for each tokenizer and each world model of `params/`."""
    batch = recorded()
    tokens_of = None
    for name in params.names("tokenizer"):
        if only is None or name in only or name == "iris":
            row, tokenizer = overfit_tokenizer(name, batch, num_updates=num_updates)
            tokens_of = tokenizer if name == "iris" else tokens_of
            if only is None or name in only:
                yield row
    assert tokens_of is not None
    for name in params.names("world_model"):
        if only is None or name in only:
            yield overfit_world_model(name, tokens_of, batch, num_updates=num_updates)


def recorded() -> Batch:
    """Return segments of random play, spread over the recording."""
    settings = params.compose(Choice(SCALE, overrides=(GAME_CHOSEN,)))
    environment = make_environment(settings.env.train)
    policy = RandomPolicy(environment.num_actions, np.random.default_rng(0))
    replay = as_replay(record_episodes(environment, policy, 400, seed=0), time_limit_is_end=True)
    longest = np.argsort(-replay.lengths, kind="stable")[:NUM_SEGMENTS]
    return replay.segments(longest, replay.lengths[longest] // 2, NUM_STEPS)


def overfit_tokenizer(name: str, batch: Batch, *, num_updates: int) -> tuple[Row, Tokenizer]:
    """Return how well a tokenizer draws the frames that it was trained on, and the tokenizer."""
    settings = params.compose(Choice(SCALE, tokenizer=name))
    seed_everything(0, "overfit", name)
    tokenizer = build_tokenizer(settings.tokenizer)
    pairs = [
        (batch.observations[:, step], batch.observations[:, max(0, step - 1)]) for step in range(NUM_STEPS)
    ]
    frames, previous = (torch.cat(parts) for parts in zip(*pairs, strict=True))

    def loss() -> Loss:
        return tokenizer.loss(frames, previous if tokenizer.needs_previous else None)

    def quality() -> float:
        shown, drawn = ((images * 255).round().byte() for images in (frames, tokenizer.reconstruct(frames)))
        return float(psnr(drawn, shown).mean())

    optimizer = tokenizer_optimizer(tokenizer, learning_rate=LEARNING_RATE)
    row = overfit("tokenizer", name, tokenizer, optimizer, loss, quality, num_updates=num_updates)
    return row, tokenizer


def overfit_world_model(name: str, tokenizer: Tokenizer, batch: Batch, *, num_updates: int) -> Row:
    """Return how well a world model predicts the tokens that it was trained on."""
    settings = params.compose(Choice(SCALE, world_model=name, overrides=(GAME_CHOSEN, *WITHOUT_DROPOUT)))
    environment = make_environment(settings.env.train)
    seed_everything(0, "overfit", name)
    world_model = build_world_model(
        settings.world_model,
        vocab_size=tokenizer.vocab_size,
        num_actions=environment.num_actions,
        tokens_per_frame=tokenizer.tokens_per_frame,
        full_action_ids=environment.full_action_ids,
    )
    token_batch = encoded(tokenizer, batch)

    @torch.no_grad()
    def quality() -> float:
        return float(
            torch.stack([world_model.loss(token_batch).terms["observation"] for _ in range(8)]).mean()
        )

    learning_rate = LEARNING_RATES.get(name, LEARNING_RATE)
    optimizer = world_model_optimizer(world_model, learning_rate=learning_rate, weight_decay=0.0)
    return overfit(
        "world_model",
        name,
        world_model,
        optimizer,
        lambda: world_model.loss(token_batch),
        quality,
        num_updates=num_updates,
    )


def overfit(
    part: str,
    name: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Loss],
    quality: Callable[[], float],
    *,
    num_updates: int,
) -> Row:
    """Return the quality before and after the updates."""
    start = quality_of(module, quality)
    component = Component(name, module, optimizer, loss, grad_acc_steps=1, max_grad_norm=10.0)
    module.train()
    began = time.process_time()
    try:
        for _ in progress(range(num_updates), what=f"{part} {name}", unit="update"):
            component.update()
        end = quality_of(module, quality)
    except DivergedError as error:
        sys.stderr.write(f"{error}\n")
        end = float("nan")
    spent = 1000 * (time.process_time() - began) / num_updates
    bound = bound_of(part, name)
    has_learned = end >= bound if part == "tokenizer" else end <= bound
    count = sum(parameter.numel() for parameter in module.parameters())
    return Row(part, name, count, start, end, bound, has_learned, spent)


def bound_of(part: str, name: str) -> float:
    """Return what a tokenizer or world model must reach."""
    return OWN_BOUNDS.get(name, BOUNDS[part])


def quality_of(module: nn.Module, quality: Callable[[], float]) -> float:
    """Return the quality in eval mode."""
    module.eval()
    return quality()


def write(rows: list[Row], *, num_updates: int) -> None:
    """Write the rows as CSV and as a page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "overfit.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f.name for f in fields(Row)])
        writer.writerows(asdict(row).values() for row in rows)
    (FOLDER / "README.md").write_text(page(rows, num_updates=num_updates), encoding="utf-8")


def page(rows: list[Row], *, num_updates: int) -> str:
    """Return the rows as Markdown."""
    good, machine = sum(row.has_learned for row in rows), provenance.hardware()
    commit = str(git_state()["commit"])[:12]
    lines = [
        "# Every tokenizer and world model learns a batch by heart",
        "",
        f"{good} of {len(rows)} do. `python benchmarks/overfit.py`: {NUM_SEGMENTS} segments of {NUM_STEPS} steps of random"
        f" play on {GAME}, scale `{SCALE}`,",
        f"{num_updates} updates at a learning rate of {LEARNING_RATE:g}"
        f" ({', '.join(f'`{name}`: {rate:g}' for name, rate in LEARNING_RATES.items())}), no dropout, seed 0, one thread of"
        f" {machine['processor']}, torch {torch.__version__}, commit {commit}.",
        f"A tokenizer must reach a PSNR of {BOUNDS['tokenizer']:g} dB on the batch, a world model a cross-entropy of"
        f" {BOUNDS['world_model']:g} nats a frame token",
        f"({', '.join(f'`{name}`: {bound:g} dB' for name, bound in OWN_BOUNDS.items())}, as half of what moves it is a"
        " discriminator's: it draws what looks real, not what lies nearest)",
        "(of a `masked` prediction: over the tokens of one draw of masks). The times are CPU times of one run with other"
        " work on the machine: they tell heavy from light, no more.",
        "",
        "| part | name | parameters | start | end | bound | | CPU ms an update |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "learned" if row.has_learned else "**broken**"
        lines.append(
            f"| {row.part.replace('_', ' ')} | `{row.name}` | {row.parameters:,} | {row.start:.2f} | {row.end:.3f}"
            f" | {row.bound:g} | {verdict} | {row.cpu_ms_per_update:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
