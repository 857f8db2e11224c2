"""What was not run to its end: an epoch, and a whole Atari-100k run, from the medians of the phases. IRIS's schedule."""

from collections.abc import Mapping, Sequence
from typing import Any

from irisflow import schema

Row = Mapping[str, Any]
UPDATES = {"tokenizer_update": 119_000, "world_model_update": 115_000, "actor_critic_update": 110_000}
NUM_STEPS, STEPS_PER_EPOCH, LAST_COLLECTION, NUM_EPOCHS = 100_000, 200, 500, 600
START = {"world_model": 25, "actor_critic": 50}
NUM_EVALUATIONS, EPISODES_PER_EVALUATION, STEPS_PER_EPISODE = 120, 16, 1_000
NEEDED = (*UPDATES, "encode", "decode", "collection", "evaluation")


def frames_seen_each_epoch(start_after: int) -> int:
    """Return the sum over epochs after `start_after` of the buffer's size: what is encoded if each frame is once."""
    epochs = range(start_after + 1, NUM_EPOCHS + 1)
    return sum(STEPS_PER_EPOCH * min(epoch, LAST_COLLECTION) for epoch in epochs)


def atari_100k(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return the hours of a whole run by part, if all phases that it is made of were measured, else None.

    It is meant for scale full. A frame is encoded and decoded at most once an epoch, for world model and actor-critic.
    """
    seconds = {row["phase"]: row["fast"]["seconds"]["median"] for row in rows}
    if not set(NEEDED) <= seconds.keys():
        return None
    per_unit = {row["phase"]: seconds[row["phase"]] / row["units"] for row in rows}
    parts = {name: num * seconds[name] for name, num in UPDATES.items()}
    parts["encoding_the_buffer"] = frames_seen_each_epoch(START["world_model"]) * per_unit["encode"]
    parts["decoding_burn_in"] = frames_seen_each_epoch(START["actor_critic"]) * per_unit["decode"]
    parts["collection"] = NUM_STEPS * per_unit["collection"]
    num_test_steps = NUM_EVALUATIONS * EPISODES_PER_EVALUATION * STEPS_PER_EPISODE
    parts["evaluation"] = num_test_steps * per_unit["evaluation"]
    parts["checkpoint"] = NUM_EPOCHS * seconds.get("checkpoint", 0.0)
    hours = {name: value / 3600 for name, value in parts.items()}
    peak = max(row["fast"]["peak_memory_bytes"] for row in rows)
    return {"hours": hours, "total_hours": sum(hours.values()), "peak_memory_bytes": peak}


def epoch_seconds(rows: Sequence[Row], settings: schema.Settings) -> dict[str, float] | None:
    """Return the seconds of an epoch without test games by part, from measured phases; None where one is lacking."""
    seconds = {row["phase"]: row["fast"]["seconds"]["median"] for row in rows}
    if not {*UPDATES, "collection"} <= seconds.keys():
        return None
    training = settings.training
    units = next(row["units"] for row in rows if row["phase"] == "collection")
    num_steps = settings.collection.train.config.num_steps or 0
    return {
        "collection": num_steps * seconds["collection"] / units,
        "tokenizer_update": training.tokenizer.steps_per_epoch * seconds["tokenizer_update"],
        "world_model_update": training.world_model.steps_per_epoch * seconds["world_model_update"],
        "actor_critic_update": training.actor_critic.steps_per_epoch * seconds["actor_critic_update"],
    }
