"""Mamba against the loop of algorithm 2, and against transformers' model on the same weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.training.optim import has_decay
from irisflow.world_model.backbones import mamba
from irisflow.world_model.backbones.mamba import (
    Mamba,
    Mixer,
    SelectiveScan,
    scan,
    scan_back,
    scan_back_in_chunks,
    scan_in_chunks,
)

EMBED, STATE, CONV = 16, 5, 3
SIZES = {
    "name": "mamba",
    "num_layers": 2,
    "match_transformer": False,
    "embed_dim": EMBED,
    "embed_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "d_state": STATE,
    "d_conv": CONV,
    "dt_rank": 3,
}


def build(*, noise: float = 0.1, **changes: object) -> Mamba:
    torch.manual_seed(0)
    backbone: Mamba = variants.build("backbone", {**SIZES, **changes}).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return backbone


def loop(decays: Tensor, inputs: Tensor, start: Tensor | None) -> Tensor:
    state = torch.zeros_like(inputs[:, 0]) if start is None else start
    states = []
    for t in range(decays.shape[1]):
        state = decays[:, t] * state + inputs[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("length", [1, 2, 3, 9, 16, 17, 100])
@pytest.mark.parametrize("has_start", [False, True])
@pytest.mark.parametrize("way", [scan, scan_in_chunks])
def test_a_scan_is_the_recurrence(length: int, has_start: bool, way) -> None:
    decays, inputs = torch.rand(2, 3, length, 4, 2, dtype=torch.float64)
    start = torch.rand(3, 4, 2, dtype=torch.float64) if has_start else None
    expected = loop(decays, inputs, start)
    given = decays.clone(), None if start is None else start.clone()
    assert_close(way(decays, inputs, start), expected)
    assert torch.equal(decays, given[0])
    assert start is None or torch.equal(start, given[1])


@pytest.mark.parametrize("way", [scan_back, scan_back_in_chunks])
def test_a_scan_backwards_is_the_gradient_of_the_recurrence(way) -> None:
    decays, inputs, weights = torch.rand(3, 2, 10, 3, 2, dtype=torch.float64)
    inputs.requires_grad_()
    (expected,) = torch.autograd.grad((loop(decays, inputs, None) * weights).sum(), inputs)
    assert_close(way(decays, weights.clone()), expected)


@pytest.mark.parametrize("way", [scan, scan_in_chunks])
@pytest.mark.parametrize("strength", [1e-6, 1e-2, 1.0, 50.0])
def test_a_long_scan_in_float32_is_as_exact_as_float32_allows(strength: float, way) -> None:
    """Products of thousands of decays underflow: nothing may be divided by them."""
    draws = torch.Generator().manual_seed(3)
    decays = torch.exp(-strength * torch.rand(1, 5000, 3, 2, generator=draws, dtype=torch.float64)).float()
    inputs = torch.randn(1, 5000, 3, 2, generator=draws)
    expected = loop(decays.double(), inputs.double(), None)
    error = (way(decays, inputs, None) - expected).abs().max()
    assert error < 1e-5 * expected.abs().max()


def scan_arguments(length: int) -> list[Tensor]:
    """Return x, steps, rates, write, read and start: two sequences, three channels, two states each."""
    draws = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    arguments = [
        normal(2, length, 3),
        F.softplus(normal(2, length, 3)),
        -torch.exp(normal(3, 2)),
        normal(2, length, 2),
        normal(2, length, 2),
        normal(2, 3, 2),
    ]
    return [argument.requires_grad_() for argument in arguments]


def selective_loop(x: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor, start: Tensor):
    """Return outputs and all states by equations 2a and 2b, a number at a time."""
    state = start
    outputs, states = [], []
    for t in range(x.shape[1]):
        rows = []
        for channel in range(x.shape[2]):
            step = steps[:, t, channel, None]
            discrete_a = torch.exp(step * rates[channel])
            rows.append(discrete_a * state[:, channel] + step * write[:, t] * x[:, t, channel, None])
        state = torch.stack(rows, dim=1)
        states.append(state)
        outputs.append((state * read[:, t, None]).sum(-1))
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)


@pytest.mark.parametrize("kept", [slice(36, 37), slice(2, 34, 5), slice(15, 33, 16)])
def test_the_selective_scan_is_the_papers_loop_with_its_gradients(kept: slice) -> None:
    """Over three pieces, of which `kept` takes some, several or no states."""
    arguments = scan_arguments(37)
    outputs, states = SelectiveScan.apply(*arguments, kept)
    expected, all_states = selective_loop(*arguments)
    assert_close(outputs, expected)
    assert_close(states, all_states[:, kept])
    weights = torch.randn_like(outputs), torch.randn_like(states)
    gradients = torch.autograd.grad((outputs * weights[0]).sum() + (states * weights[1]).sum(), arguments)
    of_loop = torch.autograd.grad(
        (expected * weights[0]).sum() + (all_states[:, kept] * weights[1]).sum(), arguments
    )
    for gradient, slow in zip(gradients, of_loop, strict=True):
        assert_close(gradient, slow)


def test_the_selective_scans_gradients_are_those_of_finite_differences() -> None:
    arguments = scan_arguments(18)
    assert torch.autograd.gradcheck(lambda *given: SelectiveScan.apply(*given, slice(16, 17)), arguments)


def test_long_sequences_give_the_loops_outputs_in_float32() -> None:
    arguments = [argument.detach() for argument in scan_arguments(3000)]
    outputs, _ = SelectiveScan.apply(*(argument.float() for argument in arguments), slice(2999, 3000))
    expected, _ = selective_loop(*arguments)
    assert (outputs - expected).abs().max() < 1e-5 * expected.abs().max()


def naive_mixer(mixer: Mixer, x: Tensor) -> Tensor:
    """Return algorithm 2 with the block of figure 3 around it, for one sequence."""
    length, inner = len(x), mixer.D.shape[0]
    both = x @ mixer.in_proj.weight.T
    stream, gate = both[:, :inner], both[:, inner:]
    convolved = torch.zeros(length, inner, dtype=x.dtype)
    for t in range(length):
        for tap in range(CONV):
            if t - tap >= 0:
                convolved[t] += mixer.conv1d.weight[:, 0, CONV - 1 - tap] * stream[t - tap]
        convolved[t] += mixer.conv1d.bias
    u = convolved * torch.sigmoid(convolved)
    selected = u @ mixer.x_proj.weight.T
    low_rank, b, c = selected[:, :3], selected[:, 3 : 3 + STATE], selected[:, 3 + STATE :]
    delta = torch.log1p(torch.exp(low_rank @ mixer.dt_proj.weight.T + mixer.dt_proj.bias))
    a = -torch.exp(mixer.A_log)
    state = torch.zeros(inner, STATE, dtype=x.dtype)
    outputs = []
    for t in range(length):
        state = torch.exp(delta[t, :, None] * a) * state + delta[t, :, None] * b[t] * u[t, :, None]
        outputs.append(state @ c[t] + mixer.D * u[t])
    return (torch.stack(outputs) * gate * torch.sigmoid(gate)) @ mixer.out_proj.weight.T


@torch.no_grad()
def test_a_pass_is_the_papers_algorithm() -> None:
    backbone = build().double()
    embeddings = torch.randn(1, 23, EMBED, dtype=torch.float64)
    x = embeddings[0]
    for block in backbone.blocks:
        normalised = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
        x = x + naive_mixer(block.mixer, normalised)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * backbone.norm.weight
    assert_close(backbone(embeddings)[0][0], expected)


@torch.no_grad()
def test_transformers_mamba_with_the_same_weights_gives_the_same_outputs() -> None:
    from transformers import MambaConfig, MambaModel

    backbone = build()
    other = MambaModel(
        MambaConfig(
            vocab_size=2,
            hidden_size=EMBED,
            state_size=STATE,
            num_hidden_layers=2,
            conv_kernel=CONV,
            time_step_rank=3,
            expand=2,
            layer_norm_epsilon=1e-5,
        )
    ).eval()
    renamed = {
        name.replace("blocks.", "layers.").replace("norm.weight", "norm_f.weight")
        if name == "norm.weight"
        else name.replace("blocks.", "layers."): weight
        for name, weight in backbone.state_dict().items()
    }
    missing, unexpected = other.load_state_dict(renamed, strict=False)
    assert (missing, unexpected) == (["embeddings.weight"], [])
    embeddings = torch.randn(2, 30, EMBED)
    expected = other(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    assert_close(backbone(embeddings)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_kernel_is_given_what_its_signature_asks_for() -> None:
    """transformers' slow function has the signature of mamba_ssm's `selective_scan_fn`."""
    from transformers.models.mamba import modeling_mamba

    arguments = [argument.detach().float() for argument in scan_arguments(7)[:5]]
    outputs, last = mamba.fused(modeling_mamba.mamba_selective_scan, *arguments)
    expected, state = SelectiveScan.apply(*arguments, torch.zeros(2, 3, 2), slice(6, 7))
    assert_close(outputs, expected)
    assert_close(last, state)


def test_steps_start_log_uniform_rates_as_s4d_real_and_the_skip_at_one() -> None:
    mixer = build(noise=0.0, embed_dim=512, num_layers=1, d_state=4).blocks[0].mixer
    steps = F.softplus(mixer.dt_proj.bias)
    assert steps.min() > 0.99e-3
    assert steps.max() < 0.101
    logs = (steps.log() - math.log(1e-3)) / math.log(100)
    quarters = torch.histc(logs, 4, min=0, max=1) / len(logs)
    assert quarters.sub(0.25).abs().max() < 0.06
    assert_close(-torch.exp(mixer.A_log), -torch.arange(1.0, 5).expand(1024, 4))
    assert (mixer.D == 1).all()


def test_rates_skips_and_biases_do_not_decay() -> None:
    backbone = build()
    decayed = {
        name.removeprefix("blocks.0.mixer.")
        for name, _ in backbone.named_parameters()
        if name.startswith("blocks.0") and has_decay(backbone, name)
    }
    linears = {f"{name}_proj.weight" for name in ("in", "x", "dt", "out")}
    assert decayed == {*linears, "conv1d.weight"}


@pytest.mark.parametrize(("embed_dim", "transformer", "layers"), [(256, 10, 18), (64, 2, 3), (32, 1, 1)])
def test_there_are_as_many_layers_as_weigh_what_a_transformers_do(
    embed_dim: int, transformer: int, layers: int
) -> None:
    sizes = {name: SIZES[name] for name in ("name", "embed_pdrop", "resid_pdrop")}
    backbone = variants.build("backbone", {**sizes, "embed_dim": embed_dim, "num_layers": transformer})
    assert len(backbone.blocks) == layers
    weights = sum(parameter.numel() for parameter in backbone.parameters())
    assert weights / (12 * embed_dim**2 * transformer) == pytest.approx(1, abs=0.2)


def test_attention_within_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="the backbone mamba has no 'block_causal'"):
        build(attention="block_causal")
