"""What the world model says when it is left alone with the recorded actions, against what really followed.

A table holds one value for each segment (row) and horizon (column).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from irisflow.evaluation.held_out import HeldOut, Segments, render
from irisflow.evaluation.image_quality import psnr, ssim
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.world_model.rewards.base import signs_of
from irisflow.world_model.world_model import WorldModel

Table = Float[Tensor, "segments horizon"]
Tables = Mapping[str, Table]


@dataclass(frozen=True)
class Forecast:
    """Predicted tokens and signs of rewards."""

    tokens: Int64[Tensor, "segments horizon tokens"]
    signs: Float[Tensor, "segments horizon"]


def imagined(
    world_model: WorldModel,
    recorded: HeldOut,
    segments: Segments,
    *,
    generator: torch.Generator,
    greedy: bool,
) -> Forecast:
    """Return what the world model predicts on its own frames, after the context and with the recorded actions."""
    actions = recorded.actions[segments.acting]
    state = world_model.observe(None, recorded.tokens[segments.past], recorded.actions[segments.past[:, :-1]])
    predictions = []
    for action in actions.unbind(dim=1):
        prediction, state = world_model.imagine(state, action, generator=generator, greedy=greedy)
        predictions.append((prediction.tokens, prediction.rewards))
    tokens, rewards = (torch.stack(parts, dim=1) for parts in zip(*predictions, strict=True))
    return Forecast(tokens, signs_of(rewards).float())


@torch.no_grad()
def teacher_forced(
    world_model: WorldModel, recorded: HeldOut, segments: Segments
) -> Int64[Tensor, "segments horizon tokens"]:
    """Return the likeliest of each token, given the real frames before it.

    Where the prediction is autoregressive, the real tokens before it in its own frame are given too.
    """
    tokens = recorded.tokens[segments.steps]
    seen = world_model(tokens, recorded.actions[segments.steps])
    return world_model.prediction.likeliest(seen, tokens)[:, segments.context - 1 :]


def token_tables(
    recorded: HeldOut, segments: Segments, tokens: Int64[Tensor, "segments horizon tokens"]
) -> Tables:
    """Return the share of right tokens, and how many of those that changed since the context are right."""
    is_right = tokens == recorded.tokens[segments.future]
    return {
        "token_accuracy": is_right.float().mean(dim=-1),
        "changed_token_accuracy": (is_right & changed(recorded, segments)).sum(dim=-1).float(),
    }


def frame_tables(
    recorded: HeldOut, segments: Segments, frames: UInt8[Tensor, "frames 3 height width"]
) -> Tables:
    """Return PSNR and SSIM of the frames at `segments.has_frame`, in its order."""
    real = recorded.frames[segments.future[segments.has_frame]]
    tables = {}
    for name, metric in (("open_psnr", psnr), ("open_ssim", ssim)):
        tables[name] = torch.zeros(segments.future.shape, device=real.device)
        tables[name][segments.has_frame] = metric(frames, real)
    return tables


def reward_tables(recorded: HeldOut, segments: Segments, signs: Float[Tensor, "segments horizon"]) -> Tables:
    """Return how far the sum of the predicted signs so far is from the real one."""
    real = recorded.signs[segments.acting].to(signs.dtype)
    return {"reward_error": (signs - real).cumsum(dim=1).abs()}


def changed(recorded: HeldOut, segments: Segments) -> Tensor:
    """Return where a real token differs from that of the last frame of the context: (segments, horizon, tokens)."""
    return recorded.tokens[segments.future] != recorded.tokens[segments.past[:, -1:]]


def weights(recorded: HeldOut, segments: Segments) -> Tables:
    """Return what each entry of a metric's table counts: 1 where there was something to predict, or tokens."""
    has_frame, has_reward = segments.has_frame.float(), segments.has_reward.float()
    return {
        "token_accuracy": has_frame,
        "changed_token_accuracy": changed(recorded, segments).sum(dim=-1) * has_frame,
        "open_psnr": has_frame,
        "open_ssim": has_frame,
        "reward_error": has_reward,
    }


def forecast_tables(
    tokenizer: Tokenizer, recorded: HeldOut, segments: Segments, forecast: Forecast
) -> dict[str, Table]:
    """Return all tables of a forecast."""
    return {
        **token_tables(recorded, segments, forecast.tokens),
        **frame_tables(recorded, segments, render(tokenizer, forecast.tokens[segments.has_frame])),
        **reward_tables(recorded, segments, forecast.signs),
    }


def tables_by_mode(
    tokenizer: Tokenizer,
    world_model: WorldModel,
    recorded: HeldOut,
    segments: Segments,
    *,
    num_samples: int,
    generator: torch.Generator,
) -> dict[str, Tables]:
    """Return the tables of every way to predict: mode -> metric -> table."""

    def tables(*, greedy: bool) -> Tables:
        forecast = imagined(world_model, recorded, segments, generator=generator, greedy=greedy)
        return forecast_tables(tokenizer, recorded, segments, forecast)

    draws = [tables(greedy=False) for _ in range(num_samples)]
    stacked = {metric: torch.stack([draw[metric] for draw in draws]) for metric in draws[0]}
    forced = teacher_forced(world_model, recorded, segments)
    return {
        "greedy": tables(greedy=True),
        "sampled": {metric: values.mean(dim=0) for metric, values in stacked.items()},
        "best_of_k": {metric: _best(metric, values) for metric, values in stacked.items()},
        "teacher_forced": {
            **token_tables(recorded, segments, forced),
            **frame_tables(recorded, segments, render(tokenizer, forced[segments.has_frame])),
        },
        **_references(recorded, segments),
    }


def _references(recorded: HeldOut, segments: Segments) -> dict[str, Tables]:
    """Return the tables of what needs no world model."""
    copied = segments.past[:, -1:].expand_as(segments.future)
    future, copied_frames = segments.future[segments.has_frame], copied[segments.has_frame]
    return {
        "copy_last": {
            **token_tables(recorded, segments, recorded.tokens[copied]),
            **frame_tables(recorded, segments, recorded.frames[copied_frames]),
            **reward_tables(recorded, segments, torch.zeros_like(copied, dtype=torch.float32)),
        },
        "copy_last_tokens": frame_tables(recorded, segments, recorded.reconstructions[copied_frames]),
        "ceiling": frame_tables(recorded, segments, recorded.reconstructions[future]),
    }


def _best(metric: str, values: Float[Tensor, "draws segments horizon"]) -> Table:
    return values.amin(dim=0) if metric == "reward_error" else values.amax(dim=0)
