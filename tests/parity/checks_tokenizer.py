"""The tokenizer against the reference's numbers."""

from pathlib import Path
from typing import Any

import torch
from fixture import (
    LEARNING_RATE,
    LOOSE,
    MAX_NORM,
    TOLERANCE,
    Fixture,
    assert_equal,
    assert_gradient_norms,
    assert_near,
    config,
    global_norm,
    gradient_norms,
    weights,
)
from torch import Tensor

from irisflow import schema
from irisflow.initialization.reference_names import from_reference, to_reference
from irisflow.plainly import is_plain
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer


def settings(scale: dict[str, Any]) -> schema.Tokenizer:
    grid = round((scale["tpb"] - 1) ** 0.5)
    num_levels = (scale["res"] // grid).bit_length()
    net = schema.Net(
        schema.NetConfig(
            resolution=scale["res"],
            in_channels=3,
            z_channels=scale["z"],
            ch=scale["ch"],
            ch_mult=[1] * num_levels,
            num_res_blocks=2,
            attn_resolutions=[8, 16],
            out_ch=3,
            dropout=0.0,
        )
    )
    quantizer = {"name": "vq", "vocab_size": scale["vocab"], "embed_dim": scale["embed"], "beta": 1.0}
    return schema.Tokenizer(
        name="parity",
        vocab_size=scale["vocab"],
        embed_dim=scale["embed"],
        tokens_per_position=1,
        encoder=net,
        decoder=net,
        quantizer=quantizer,
        reconstruction={"l1": {"weight": 1.0}},
    )


def reference_tokenizer(folder: Path) -> Tokenizer:
    """Return our tokenizer with the reference's weights; both directions of the names fit."""
    tokenizer = build_tokenizer(settings(config(folder)["scale"]))
    theirs = weights(folder, "tokenizer_weights")
    tokenizer.load_state_dict(from_reference("tokenizer", theirs))
    back = to_reference("tokenizer", tokenizer.state_dict())
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert_equal(back[name], tensor, name)
    return tokenizer


def check_tokenizer(folder: Path) -> None:
    fixture = Fixture(folder, "tokenizer_io")
    tokenizer = reference_tokenizer(folder)
    observations = fixture.take_images("observations")
    _check_forward(tokenizer, observations, fixture)
    _check_updates(tokenizer, observations, fixture)
    fixture.finish()


def _check_forward(tokenizer: Tokenizer, observations: Tensor, fixture: Fixture) -> None:
    tokens, reconstructions = fixture.take("tokens"), fixture.take("reconstructions")
    assert_near(tokenizer.latents(observations), fixture.take("z"), "z")
    assert_equal(tokenizer.encode(observations), tokens, "tokens")
    quantized, images = tokenizer(observations)
    assert_equal(quantized.tokens, tokens, "tokens of a training pass")
    codes = fixture.take("z_quantized")
    assert_near(quantized.codes, codes, "z_quantized")
    assert_near(tokenizer.embed(tokens), codes, "codes of the tokens")
    assert_near((images + 1) / 2, reconstructions, "reconstructions", LOOSE)
    assert_near(tokenizer.decode(tokens), reconstructions.clamp(0, 1), "decoded", LOOSE)


def _check_updates(tokenizer: Tokenizer, observations: Tensor, fixture: Fixture) -> None:
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=LEARNING_RATE)
    losses = []
    for update in range(4):
        loss = tokenizer.loss(observations)
        losses.append(torch.stack([loss.terms["commitment"], loss.terms["l1"]]).detach())
        optimizer.zero_grad()
        loss.total.backward()
        if update == 0:
            _check_gradients(tokenizer, fixture)
        torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), MAX_NORM)
        optimizer.step()
    assert_losses_near(torch.stack(losses), fixture.take("losses_of_updates"))


def assert_losses_near(actual: Tensor, expected: Tensor) -> None:
    """Each term on its own scale, with some room: a small one must not hide behind a large one."""
    assert actual.shape == expected.shape
    room = LOOSE * expected.abs().amax(dim=0) + TOLERANCE * expected.abs().max()
    difference = (actual.double() - expected).abs()
    assert (difference <= room).all(), f"losses of updates: off by {difference.amax(dim=0).tolist()}"


def _check_gradients(tokenizer: Tokenizer, fixture: Fixture) -> None:
    gradients = {name: p.grad for name, p in tokenizer.named_parameters() if p.grad is not None}
    norms = gradient_norms(to_reference("tokenizer", gradients))
    tolerance = TOLERANCE if is_plain() else LOOSE  # kernels of convolutions sum in an order of their own
    assert_gradient_norms(norms, fixture.take_group("gradient_norm/"), tolerance)
    assert_near(global_norm(norms.values()), fixture.take("global_gradient_norm"), "global gradient norm")
