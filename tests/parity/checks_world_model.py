"""The world model against the reference's numbers."""

from pathlib import Path
from typing import Any

import torch
from checks_tokenizer import assert_losses_near, reference_tokenizer
from fixture import (
    LEARNING_RATE,
    MAX_NORM,
    WEIGHT_DECAY,
    Fixture,
    assert_equal,
    assert_gradient_norms,
    assert_near,
    assert_zero_where,
    config,
    gradient_norms,
    weights,
)
from torch import Tensor

from irisflow import schema
from irisflow.initialization.reference_names import from_reference, to_reference
from irisflow.records import TokenBatch
from irisflow.training.optim import decay_groups, has_decay
from irisflow.world_model.heads import labels
from irisflow.world_model.prediction import autoregressive
from irisflow.world_model.rewards import sign
from irisflow.world_model.world_model import WorldModel, build_world_model


def settings(scale: dict[str, Any], attention: str = "causal") -> schema.WorldModel:
    sizes = {
        "num_layers": scale["layers"],
        "num_heads": scale["heads"],
        "embed_dim": scale["dim"],
        "embed_pdrop": scale["pdrop"],
        "resid_pdrop": scale["pdrop"],
        "attn_pdrop": scale["pdrop"],
        "attention": attention,
    }
    lengths = {"max_tokens": scale["tpb"] * scale["blocks"], "tokens_per_block": scale["tpb"]}
    return schema.WorldModel(
        name="parity",
        tokens_per_block=scale["tpb"],
        max_blocks=scale["blocks"],
        backbone={"name": "gpt", **sizes, **lengths},
        prediction={"name": "autoregressive"},
        reward={"name": "sign"},
        **sizes,
    )


def reference_world_model(folder: Path) -> WorldModel:
    """Return our world model with the reference's weights; both directions of the names fit."""
    whole = config(folder)
    scale = whole["scale"]
    model = build_world_model(
        settings(scale),
        vocab_size=scale["vocab"],
        num_actions=whole["num_actions"],
        tokens_per_frame=scale["tpb"] - 1,
    )
    theirs = weights(folder, "world_model_weights")
    model.load_state_dict(from_reference("world_model", theirs))
    back = to_reference("world_model", model.state_dict())
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert_equal(back[name], tensor, name)
    return model


def check_world_model(folder: Path) -> None:
    fixture = Fixture(folder, "world_model_io")
    model = reference_world_model(folder)
    batch = _token_batch(folder, fixture)
    _check_labels(batch, fixture)
    _check_pass(model, batch, fixture)
    _check_stepping(model, batch, fixture)
    _check_decay_groups(model, config(folder))
    _check_updates(model, batch, fixture)
    fixture.finish()


def _token_batch(folder: Path, fixture: Fixture) -> TokenBatch:
    """Return the batch as it comes from the tokenizer; the reference's padding is zeros."""
    mask, actions = fixture.take("mask_padding"), fixture.take("actions")
    rewards, ends = fixture.take("rewards"), fixture.take("ends")
    observations = fixture.take_images("observations")
    for name, tensor in (
        ("actions", actions),
        ("rewards", rewards),
        ("ends", ends),
        ("images", observations),
    ):
        assert_zero_where(~mask, tensor, name)
    assert torch.equal(mask, mask.cummin(dim=1).values), "padding is on the right"
    tokens = reference_tokenizer(folder).encode(observations)
    sequence = torch.cat([tokens, actions[:, :, None]], dim=2).flatten(1)
    assert_equal(sequence, fixture.take("tokens"), "tokens and actions")
    return TokenBatch(tokens, actions, rewards, ends.bool(), mask)


def _check_labels(batch: TokenBatch, fixture: Fixture) -> None:
    observations = autoregressive.labels(batch.tokens, batch.mask)
    rewards = sign.labels(batch.rewards, batch.mask)
    ends = labels(batch.ends.long(), batch.mask)
    assert_equal(observations.flatten(), fixture.take("labels_observations"), "observation labels")
    assert_equal(rewards.flatten(), fixture.take("labels_rewards"), "reward labels")
    assert_equal(ends.flatten(), fixture.take("labels_ends"), "end labels")


@torch.no_grad()
def _check_pass(model: WorldModel, batch: TokenBatch, fixture: Fixture) -> None:
    seen = model(batch.tokens, batch.actions)
    assert_near(seen.outputs.flatten(1, 2), fixture.take("output_sequence"), "output sequence")
    assert_near(model.prediction(seen.outputs), fixture.take("logits_observations"), "observation logits")
    assert_near(model.reward_head(seen.at_actions), fixture.take("logits_rewards"), "reward logits")
    assert_near(model.end_head(seen.at_actions), fixture.take("logits_ends"), "end logits")


@torch.no_grad()
def _check_stepping(model: WorldModel, batch: TokenBatch, fixture: Fixture) -> None:
    embeddings = model.embedding(batch.tokens, batch.actions)
    prefill = model.tokens_per_frame
    _, memory = model.backbone(embeddings[:, :prefill])
    outputs = []
    for position in range(prefill, embeddings.shape[1]):
        output, memory = model.backbone(embeddings[:, position : position + 1], memory)
        outputs.append(output)
    assert_near(torch.cat(outputs, dim=1), fixture.take("stepped_output_sequence"), "stepped output sequence")


def _check_decay_groups(model: WorldModel, whole: dict[str, Any]) -> None:
    undecayed = {name: p for name, p in model.named_parameters() if not has_decay(model, name)}
    names = sorted(to_reference("world_model", undecayed))
    assert names == whole["world_model_parameters_without_weight_decay"]


def _check_updates(model: WorldModel, batch: TokenBatch, fixture: Fixture) -> None:
    groups = decay_groups(model, weight_decay=WEIGHT_DECAY)
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    losses: list[Tensor] = []
    for update in range(4):
        loss = model.loss(batch)
        losses.append(torch.stack([loss.terms[name] for name in ("observation", "reward", "end")]).detach())
        optimizer.zero_grad()
        loss.total.backward()
        if update == 0:
            _check_gradients(model, fixture)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
    assert_losses_near(torch.stack(losses), fixture.take("losses_of_updates"))


def _check_gradients(model: WorldModel, fixture: Fixture) -> None:
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = gradient_norms(to_reference("world_model", gradients))
    assert_gradient_norms(norms, fixture.take_group("gradient_norm/"))
