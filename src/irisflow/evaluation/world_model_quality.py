"""How well tokenizer and world model predict held-out episodes: frames, rewards and ends.

All that is compared is fixed by the recording: frames, starts and actions. docs/dataset-format.md says what each metric
means.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from irisflow.evaluation.classification import (
    average_precision,
    calibration,
    confusion,
    macro_f1,
    precisions,
    precisions_at_recalls,
    recalls,
)
from irisflow.evaluation.codebook import codebook_use, most_frequent
from irisflow.evaluation.held_out import (
    FRAMES_AT_ONCE,
    HeldOut,
    Segments,
    held_out,
    render,
    segments,
    spread,
    windows,
)
from irisflow.evaluation.image_quality import PSNR_CAP, psnr, ssim
from irisflow.evaluation.open_loop import Tables, imagined, tables_by_mode, weights
from irisflow.evaluation.perceptual import MOST_FRAMES, lpips_distances, published_lpips
from irisflow.evaluation.small_objects import SmallObjects, small_objects
from irisflow.evaluation.stretches import (
    Sums,
    frame_stretches,
    num_episodes,
    num_stretches,
    open_loop_stretches,
)
from irisflow.records import Episode
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.world_model.world_model import WorldModel

RECALLS = range(10, 101, 10)  # in percent
PROBABILITY_EDGES = (
    0.01,
    0.03,
    0.1,
    0.3,
)  # ends are rare: bins as wide as the probabilities in them are large
SIGNS = range(-1, 2)
COMPARED = {"psnr": psnr, "ssim": ssim}
SHOWN = ("greedy", "sampled", "teacher_forced", "copy_last", "ceiling")  # by the report, with intervals


@dataclass(frozen=True)
class Measurement:
    """One number, and how many cases it is a mean over. What does not apply is empty."""

    metric: str
    value: float
    n: int
    mode: str = ""
    context: int | None = None
    horizon: int | None = None
    of_class: int | None = None


@dataclass(frozen=True)
class Quality:
    """All measurements of one state of the weights, and what is behind some of them.

    `confusion` has the counts of rewards and ends, `stretches` the sums that intervals need (docs/dataset-format.md).
    """

    measurements: list[Measurement]
    confusion: dict[str, list[list[int]]]
    stretches: Sums


@dataclass(frozen=True)
class Yardsticks:
    """What all weights are held to: the recording's small objects, and LPIPS's network where its weights are at hand."""

    objects: SmallObjects
    lpips: nn.Module | None


@dataclass(frozen=True)
class Examination:
    """Tokenizer and world model, both in eval mode, before the held-out episodes. `window`: blocks that they see."""

    tokenizer: Tokenizer
    world_model: WorldModel
    recorded: HeldOut
    yardsticks: Yardsticks
    window: int

    @cached_property
    def per_frame(self) -> dict[str, Float[Tensor, " steps"]]:
        """PSNR, SSIM and, where there is one, LPIPS of each reconstruction; NaN where it was not measured."""
        recorded = self.recorded
        pieces = [
            torch.split(images, FRAMES_AT_ONCE) for images in (recorded.reconstructions, recorded.frames)
        ]
        pairs = list(zip(*pieces, strict=True))
        found = {name: torch.cat([metric(*pair) for pair in pairs]) for name, metric in COMPARED.items()}
        if self.yardsticks.lpips is not None:
            some = spread(len(recorded), most=MOST_FRAMES)
            images = recorded.reconstructions[some], recorded.frames[some]
            found["lpips"] = torch.full_like(found["psnr"], torch.nan)
            found["lpips"][some] = lpips_distances(self.yardsticks.lpips, *images).to(found["psnr"])
        return found


@dataclass(frozen=True)
class OpenLoop:
    """What was predicted from some starts: tables by mode and metric, and what each of their entries counts."""

    cut: Segments
    by_mode: dict[str, Tables]
    weights: Tables


def yardsticks(episodes: Sequence[Episode], *, device: torch.device) -> Yardsticks:
    """Return what any tokenizer is measured with on these episodes."""
    return Yardsticks(small_objects(episodes, device=device), published_lpips(device))


def examine(
    tokenizer: Tokenizer,
    world_model: WorldModel,
    episodes: Sequence[Episode],
    yardsticks: Yardsticks,
    *,
    window: int,
    time_limit_is_end: bool,
    device: torch.device,
) -> Examination:
    """Return what the measurements need: the episodes seen by the tokenizer."""
    recorded = held_out(tokenizer.eval(), episodes, time_limit_is_end=time_limit_is_end, device=device)
    return Examination(tokenizer, world_model.eval(), recorded, yardsticks, window)


def measure(
    examined: Examination, *, context: int, num_starts: int, num_samples: int, generator: torch.Generator
) -> Quality:
    """Return all measurements. Open loop runs to the end of the window, after 1 and after `context` real frames."""
    found, loops = tokenizer_quality(examined), []
    for num_frames in sorted({1, context}):
        loop = open_loop(
            examined,
            context=num_frames,
            num_starts=num_starts,
            num_samples=num_samples,
            generator=generator,
        )
        if loop is not None:
            loops.append(loop)
            found += open_loop_quality(loop)
    heads, counts = head_quality(examined)
    return Quality(found + heads, counts, stretches(examined, loops, num_starts=num_starts))


def stretches(examined: Examination, loops: Sequence[OpenLoop], *, num_starts: int) -> Sums:
    """Return the sums over stretches of the recording: of its frames, and of the open loop with the shortest context."""
    recorded = examined.recorded
    num = num_stretches(recorded, num_starts=num_starts)
    found = frame_stretches(recorded, examined.per_frame, num=num)
    found["num_episodes"] = np.array([num_episodes(recorded)])
    for loop in loops[:1]:
        shown = {mode: tables for mode, tables in loop.by_mode.items() if mode in SHOWN}
        found |= open_loop_stretches(recorded, loop.cut, shown, loop.weights, num=num)
        found["context"] = np.array([loop.cut.context])
    return found


def tokenizer_quality(examined: Examination) -> list[Measurement]:
    """Return how well frames are reconstructed, and how much of the codebook is in use."""
    recorded, compared = examined.recorded, examined.per_frame
    perplexity, usage = codebook_use(recorded.tokens, vocab_size=examined.tokenizer.vocab_size)
    n, num_tokens = len(recorded), recorded.tokens.numel()
    return [
        Measurement("psnr", float(compared["psnr"].mean()), n),
        Measurement("psnr_capped", float((compared["psnr"] >= PSNR_CAP).float().mean()), n),
        Measurement("ssim", float(compared["ssim"].mean()), n),
        Measurement("perplexity", perplexity, num_tokens),
        Measurement("usage", usage, num_tokens),
        *_token_shares(recorded.tokens, vocab_size=examined.tokenizer.vocab_size),
        *_small_object_quality(examined.yardsticks.objects, recorded),
        *_perceptual_quality(compared),
    ]


def _small_object_quality(objects: SmallObjects, recorded: HeldOut) -> Iterator[Measurement]:
    """Yield how many of the small objects are drawn; nothing where there are none."""
    if n := len(objects):
        yield Measurement("small_object_recall", objects.recall(recorded.reconstructions), n)


def _perceptual_quality(compared: Mapping[str, Float[Tensor, " steps"]]) -> Iterator[Measurement]:
    """Yield the mean LPIPS of some frames; nothing without its weights."""
    if "lpips" in compared:
        distances = compared["lpips"][~compared["lpips"].isnan()]
        yield Measurement("lpips", float(distances.mean()), len(distances))


def _token_shares(tokens: Int64[Tensor, "*frames tokens"], *, vocab_size: int) -> Iterator[Measurement]:
    for num_codes, share in most_frequent(tokens, vocab_size=vocab_size).items():
        yield Measurement("token_share", share, tokens.numel(), of_class=num_codes)


def open_loop(
    examined: Examination, *, context: int, num_starts: int, num_samples: int, generator: torch.Generator
) -> OpenLoop | None:
    """Return what is predicted after the context; None where no episode is longer than that."""
    recorded = examined.recorded
    cut = segments(recorded, context=context, length=examined.window, num_starts=num_starts)
    if cut is None:
        return None
    by_mode = tables_by_mode(
        examined.tokenizer,
        examined.world_model,
        recorded,
        cut,
        num_samples=num_samples,
        generator=generator,
    )
    return OpenLoop(cut, by_mode, weights(recorded, cut))


def open_loop_quality(loop: OpenLoop) -> list[Measurement]:
    """Return how well frames and rewards are predicted, by mode and horizon."""
    return [
        Measurement(metric, value, n, mode=mode, context=loop.cut.context, horizon=horizon)
        for mode, tables in loop.by_mode.items()
        for metric, horizon, value, n in _means(tables, loop.weights)
    ]


def _means(tables: Tables, counted: Tables) -> Iterator[tuple[str, int, float, int]]:
    """Yield metric, horizon, mean and count wherever anything counts. A table of counts is not weighted again."""
    for metric, table in tables.items():
        weight = counted[metric]
        totals = (table * (weight > 0)).sum(dim=0).tolist()
        for horizon, (total, n) in enumerate(zip(totals, weight.sum(dim=0).tolist(), strict=True), start=1):
            if n:
                yield metric, horizon, total / n, round(n)


@torch.no_grad()
def head_quality(examined: Examination) -> tuple[list[Measurement], dict[str, list[list[int]]]]:
    """Return how well reward signs and ends are told after each step, given the real past, and their confusions."""
    recorded, seen = examined.recorded, []
    for piece in windows(recorded, length=examined.window):
        passed = examined.world_model(recorded.tokens[piece.steps], recorded.actions[piece.steps])
        outputs = passed.at_actions[piece.mask]
        signs, ends = examined.world_model.reward_head.signs(outputs), examined.world_model.end_head(outputs)
        seen.append((signs, ends, piece.steps[piece.mask]))
    signs, ends, steps = (torch.cat(parts) for parts in zip(*seen, strict=True))
    is_end = recorded.ends[steps]
    by_sign = confusion(signs + 1, recorded.signs[steps] + 1, num_classes=3)
    by_end = confusion(ends.argmax(dim=-1), is_end.long(), num_classes=2)
    found = [
        *_by_class("reward_recall", SIGNS, recalls(by_sign), by_sign.sum(dim=1)),
        *_by_class("reward_precision", SIGNS, precisions(by_sign), by_sign.sum(dim=0)),
        Measurement("reward_macro_f1", macro_f1(by_sign), len(steps)),
        *_by_class("end_recall", range(2), recalls(by_end), by_end.sum(dim=1)),
        *end_quality(ends.softmax(dim=-1)[:, 1], is_end),
    ]
    return found, {"reward": by_sign.tolist(), "end": by_end.tolist()}


def end_quality(
    probabilities: Float[Tensor, " steps"], is_end: Bool[Tensor, " steps"]
) -> Iterator[Measurement]:
    """Yield whether ends are more probable than other steps, where there are any, and as probable as they are said to be."""
    n = len(is_end)
    yield Measurement("end_base_rate", float(is_end.double().mean()), n)
    if is_end.any():
        yield Measurement("end_average_precision", average_precision(probabilities, is_end), n)
        yield from _by_class("end_precision", RECALLS, *precisions_at_recalls(probabilities, is_end, RECALLS))
    found = calibration(probabilities, is_end, PROBABILITY_EDGES)
    bins = range(len(PROBABILITY_EDGES) + 1)
    yield from _by_class("end_predicted", bins, found.predicted, found.counts)
    yield from _by_class("end_occurred", bins, found.occurred, found.counts)
    yield Measurement("end_calibration_error", found.error, n)


def _by_class(metric: str, classes: Iterable[int], values: Tensor, counts: Tensor) -> Iterator[Measurement]:
    for of_class, value, n in zip(classes, values.tolist(), counts.tolist(), strict=True):
        if n:
            yield Measurement(metric, value, n, of_class=of_class)


def film(examined: Examination, *, num_films: int, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Return what followed a few starts beside what was imagined there, as docs/dataset-format.md describes.

    The starts have as long a future as there is in the recording, up to the window.
    """
    recorded, world_model = examined.recorded, examined.world_model
    steps = torch.arange(len(recorded), device=recorded.frames.device)
    longest = min(int((recorded.last_step - steps).max()), examined.window - 1)
    cut = segments(recorded, context=1, length=examined.window, num_starts=num_films, min_horizon=longest)
    assert cut is not None, "the start of the longest episode is one"
    films = {"truth": recorded.frames[cut.steps], "reconstruction": recorded.reconstructions[cut.steps]}
    for name, greedy in (("imagination", False), ("greedy", True)):
        tokens = imagined(world_model, recorded, cut, generator=generator, greedy=greedy).tokens
        frames = render(examined.tokenizer, tokens.flatten(0, 1)).reshape_as(films["truth"][:, 1:])
        films[name] = torch.cat([films["reconstruction"][:, :1], frames], dim=1)
    kept = {"actions": recorded.actions[cut.acting], "mask": cut.mask}
    return {name: array.cpu().numpy() for name, array in {**films, **kept}.items()}
