"""The actor-critic and the lambda-returns against the reference's numbers."""

from pathlib import Path

import torch
from checks_tokenizer import assert_losses_near
from fixture import (
    LEARNING_RATE,
    MAX_NORM,
    Fixture,
    assert_near,
    assert_zero_where,
    config,
    global_norm,
)
from torch import Tensor

from irisflow.behaviour.actor_critics.cnn_lstm import CnnLstm, Config, build
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.behaviour.returns import lambda_returns
from irisflow.initialization.reference_names import from_reference, to_reference
from irisflow.records import Rollout

RETURNS = {"gamma": 0.995, "lambda_": 0.95}


def formula_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Return the weights that the README's formula gives."""
    weights = {}
    for k, (name, shape) in enumerate(shapes.items()):
        i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 64
        s = (3 / fan_in) ** 0.5
        weights[name] = (s * torch.sin(i * i * 0.37 + i * 1.3 + k)).float().reshape(shape)
    return weights


def reference_actor_critic(folder: Path) -> CnnLstm:
    whole = config(folder)
    shapes = whole["actor_critic_parameters"]
    channels = [shapes[f"conv{index}.weight"][0] for index in (1, 2, 3, 4)]
    hidden_dim = shapes["lstm.weight_hh"][1]
    model = build(
        Config(hidden_dim=hidden_dim, channels=channels, use_original_obs=False),
        code_map=(1, 1, 1),
        num_actions=whole["num_actions"],
        resolution=whole["scale"]["res"],
    )
    model.load_state_dict(from_reference("actor_critic", formula_weights(shapes)))
    names = {name: list(p.shape) for name, p in to_reference("actor_critic", model.state_dict()).items()}
    assert list(names.items()) == list(shapes.items()), "names, shapes and order of the parameters"
    return model


def check_actor_critic(folder: Path) -> None:
    fixture = Fixture(folder, "actor_critic_io")
    model = reference_actor_critic(folder)
    inputs = _inputs(fixture)
    _check_burn_in(model, inputs, fixture)
    _check_rollout(model, inputs, fixture)
    _check_updates(model, inputs, fixture)
    fixture.finish()


def _inputs(fixture: Fixture) -> dict[str, Tensor]:
    images = {name: fixture.take_images(name) for name in ("burn_in_observations", "rollout_observations")}
    names = ("burn_in_mask", "rollout_actions", "rollout_rewards", "rollout_ends")
    inputs = images | {name: fixture.take(name) for name in names}
    mask, rewards = inputs["burn_in_mask"], inputs["rollout_rewards"]
    assert torch.equal(mask, mask.cummax(dim=1).values), "padding is on the left"
    assert_zero_where(~mask, inputs["burn_in_observations"], "burn-in observations")
    assert torch.equal(rewards, rewards.sign()), "an imagined reward is a sign"
    return inputs


def _check_burn_in(model: CnnLstm, inputs: dict[str, Tensor], fixture: Fixture) -> None:
    state = model.burn_in(inputs["burn_in_observations"], inputs["burn_in_mask"])
    assert_near(state.hidden, fixture.take("hidden_after_burn_in"), "hidden state after burn-in")
    assert_near(state.cell, fixture.take("cell_after_burn_in"), "cell state after burn-in")


def _rollout(model: CnnLstm, inputs: dict[str, Tensor]) -> Rollout:
    """Return the fixed rollout with the model's logits and values on it."""
    state = model.burn_in(inputs["burn_in_observations"], inputs["burn_in_mask"])
    observations = inputs["rollout_observations"]
    outputs = []
    for images in observations.unbind(1):
        output, state = model(images, state)
        outputs.append(output)
    return Rollout(
        views=observations,
        actions=inputs["rollout_actions"],
        logits=torch.stack([output.logits for output in outputs], dim=1),
        values=torch.stack([output.values for output in outputs], dim=1),
        rewards=inputs["rollout_rewards"],
        ends=inputs["rollout_ends"],
    )


@torch.no_grad()
def _check_rollout(model: CnnLstm, inputs: dict[str, Tensor], fixture: Fixture) -> None:
    rollout = _rollout(model, inputs)
    assert_near(rollout.logits, fixture.take("logits"), "logits")
    assert_near(rollout.values, fixture.take("values"), "values")
    returns = lambda_returns(rollout.rewards, rollout.values, rollout.ends, **RETURNS)
    assert_near(returns, fixture.take("lambda_returns"), "lambda-returns")


def _check_updates(model: CnnLstm, inputs: dict[str, Tensor], fixture: Fixture) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for update in range(4):
        loss = actor_critic_loss(_rollout(model, inputs), **RETURNS, entropy_weight=0.001)
        losses.append(torch.stack([loss.terms[name] for name in ("actor", "value", "entropy")]).detach())
        optimizer.zero_grad()
        loss.total.backward()
        if update == 0:
            norm = global_norm(p.grad.norm() for p in model.parameters() if p.grad is not None)
            assert_near(norm, fixture.take("global_gradient_norm"), "global gradient norm")
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
    assert_losses_near(torch.stack(losses), fixture.take("losses_of_updates"))


def check_returns(folder: Path) -> None:
    fixture = Fixture(folder, "returns")
    rewards, values, ends = (fixture.take(name) for name in ("rewards", "values", "ends"))
    settings = {
        "lambda_returns": RETURNS,
        "lambda_returns_gamma_0.9_lambda_0.5": {"gamma": 0.9, "lambda_": 0.5},
    }
    for name, setting in settings.items():
        assert_near(lambda_returns(rewards, values, ends, **setting), fixture.take(name), name)
    fixture.finish()
