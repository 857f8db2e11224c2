"""Mamba: a state-space model whose step size, input and output depend on the token.

Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces": the block of section 3.4, the
selective scan of algorithm 2, initialised as section 3.6 says.

The scan is pure PyTorch. Where the package `mamba_ssm` is installed and the tensors are on CUDA, a first pass takes its
fused kernel. That path has not been run here: its layout is tested against transformers' function of the same signature.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from irisflow.dropout import Dropout
from irisflow.linear import Linear
from irisflow.world_model.backbones._settings import check_causal
from irisflow.world_model.backbones.base import Branches, Sequence

LEAST = {
    "num_layers": 1,
    "embed_dim": 1,
    "embed_pdrop": 0,
    "resid_pdrop": 0,
    "expand": 1,
    "d_state": 1,
    "d_conv": 2,
    "dt_rank": 0,
}
LEAST_STEP, GREATEST_STEP, STEP_FLOOR = 1e-3, 1e-1, 1e-4  # of the step size at the start

Inner = Float[Tensor, "batch length inner"]
Coefficients = Float[Tensor, "batch length state"]
States = Float[Tensor, "batch length inner state"]
Kept = Float[Tensor, "batch kept inner state"]
Hidden = Float[Tensor, "batch inner state"]
Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Config:
    """Sizes and dropout probabilities.

    With `match_transformer`, `num_layers` counts layers of a Transformer, of 12 embed_dim^2 weights each: there are as
    many Mamba layers as come nearest to their weights together. `dt_rank` 0 is a sixteenth of `embed_dim`.
    """

    num_layers: int
    embed_dim: int
    embed_pdrop: float
    resid_pdrop: float
    attention: str = "causal"
    match_transformer: bool = True
    expand: int = 2
    d_state: int = 16
    d_conv: int = 4
    dt_rank: int = 0


def build(config: Config) -> "Mamba":
    """Return the backbone. Raises ConfigError for what it cannot do."""
    check_causal(config.attention, "mamba")
    return Mamba(config, num_layers(config))


def num_layers(config: Config) -> int:
    """Return how many Mamba layers there are."""
    if not config.match_transformer:
        return config.num_layers
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in Block(config, depth=1).parameters())
    return max(1, round(config.num_layers * 12 * config.embed_dim**2 / weights))


@dataclass(frozen=True)
class Past:
    """What a layer keeps: the convolution's last inputs, and the state. Nothing is ever written into them."""

    tail: Float[Tensor, "batch inner tail"]
    state: Hidden


@dataclass(frozen=True)
class Pasts:
    """The memory: every layer's past after `length` tokens."""

    layers: list[Past]
    length: int


def scan(decays: States, inputs: States, start: Hidden | None) -> States:
    """Return h of h[t] = decays[t] h[t-1] + inputs[t] for all t, without gradients. `inputs` is overwritten.

    A GPU, which waits for each small step, gets chunks side by side.
    """
    if inputs.is_cuda:
        return scan_in_chunks(decays, inputs, start)
    if start is not None:
        inputs[:, 0].addcmul_(decays[:, 0], start)
    steps = inputs.unbind(1)
    for decay, before, state in zip(decays.unbind(1)[1:], steps[:-1], steps[1:], strict=True):
        state.addcmul_(decay, before)
    return inputs


def scan_back(decays: States, inputs: States) -> States:
    """Return g of g[t] = inputs[t] + decays[t+1] g[t+1]: the gradient of `scan`. `inputs` is overwritten."""
    if inputs.is_cuda:
        return scan_back_in_chunks(decays, inputs)
    steps = inputs.unbind(1)[::-1]
    for decay, after, gradient in zip(decays.unbind(1)[:0:-1], steps[:-1], steps[1:], strict=True):
        gradient.addcmul_(decay, after)
    return inputs


def scan_in_chunks(decays: States, inputs: States, start: Hidden | None) -> States:
    """Return what `scan` does in about 2 sqrt(length) steps.

    Chunks as long as they are many run side by side from zero; then each takes in what the one before left, times the
    product of decays since. With decays in [0, 1] nothing can overflow, as nothing is divided by a product.
    """
    length = decays.shape[1]
    size = math.isqrt(length - 1) + 1
    padding = (0, 0, 0, 0, 0, -length % size)
    products, states = (  # padding copies, also by nothing
        F.pad(x, padding).reshape(len(x), -1, size, *x.shape[2:]) for x in (decays, inputs)
    )
    for t in range(1, size):
        states[:, :, t].addcmul_(products[:, :, t], states[:, :, t - 1])
        products[:, :, t].mul_(products[:, :, t - 1])
    left = start
    for chunk in range(states.shape[1]):
        if left is not None:
            states[:, chunk].addcmul_(products[:, chunk], left[:, None])
        left = states[:, chunk, -1]
    whole: Tensor = states.flatten(1, 2)
    return whole[:, :length]


def scan_back_in_chunks(decays: States, inputs: States) -> States:
    """Return what `scan_back` does."""
    return scan_in_chunks(decays.roll(-1, 1).flip(1), inputs.flip(1), None).flip(1)


class SelectiveScan(torch.autograd.Function):
    """Equations 2a and 2b with A discretised by zero-order hold and B by Euler's rule, as Mamba does.

    States are `d_state` times as large as what comes in and goes out. So they are made a piece of the sequence at a
    time, and only those between pieces are kept; the backward pass makes the others again (section 3.3.2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Inner,
        steps: Inner,
        rates: Float[Tensor, "inner state"],
        write: Coefficients,
        read: Coefficients,
        start: Hidden,
        kept: slice,
    ) -> tuple[Inner, Kept]:
        """Return the outputs, and the states after the tokens `kept`."""
        outputs, saved, starts = [], [], [start]
        for piece in _pieces(x):
            states = scan(*_discretised(x[:, piece], steps[:, piece], rates, write[:, piece]), starts[-1])
            outputs.append((states @ read[:, piece, :, None])[..., 0])
            saved.append(states[:, _within(kept, piece)].clone())
            starts.append(states[:, -1].clone())
        ctx.save_for_backward(x, steps, rates, write, read, *starts[:-1])
        ctx.kept = kept
        return torch.cat(outputs, dim=1), torch.cat(saved, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients: the states' own obey the same recurrence, run backwards."""
        of_outputs, of_kept = gradients
        x, steps, rates, write, read, *starts = ctx.saved_tensors
        of_x, of_steps, of_write, of_read = (torch.empty_like(part) for part in (x, steps, write, read))
        of_rates, of_state = torch.zeros_like(rates), torch.zeros_like(starts[0])
        num_kept = of_kept.shape[1]
        with torch.autocast(x.device.type, enabled=False):
            for piece, start in zip(_pieces(x)[::-1], starts[::-1], strict=True):
                u, dt, b, c, of_y = (part[:, piece] for part in (x, steps, write, read, of_outputs))
                decays, inputs = _discretised(u, dt, rates, b)
                states = scan(decays, inputs, start)
                of_states = of_y[..., None] * c[:, :, None]
                kept = _within(ctx.kept, piece)
                of_states[:, kept] += of_kept[:, num_kept - _count(kept) : num_kept]
                num_kept -= _count(kept)
                of_states[:, -1] += of_state
                of_inputs = scan_back(decays, of_states)
                of_state = of_inputs[:, 0] * decays[:, 0]
                of_read[:, piece] = (of_y[:, :, None] @ states)[:, :, 0]
                of_write[:, piece] = ((u * dt)[:, :, None] @ of_inputs)[:, :, 0]
                of_written = (of_inputs @ b[..., None])[..., 0]
                of_exponents = of_inputs.mul_(decays)
                of_exponents[:, 0].mul_(start)
                of_exponents[:, 1:].mul_(states[:, :-1])
                of_x[:, piece] = of_written * dt
                of_steps[:, piece] = of_written * u + (of_exponents * rates).sum(-1)
                of_rates += of_exponents.mul_(dt[..., None]).sum((0, 1))
        return of_x, of_steps, of_rates, of_write, of_read, of_state, None


def _pieces(x: Inner) -> list[slice]:
    """Return the pieces of a sequence: on a CPU so short that they stay in its cache."""
    size, length = (128 if x.is_cuda else 16), x.shape[1]
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _within(kept: slice, piece: slice) -> slice:
    """Return which tokens of a piece are among those `kept` of the whole sequence."""
    tokens = range(kept.start, kept.stop, kept.step or 1)
    found = [token - piece.start for token in tokens if piece.start <= token < piece.stop]
    return slice(found[0], found[-1] + 1, tokens.step) if found else slice(0, 0)


def _count(kept: slice) -> int:
    """Return how many tokens a slice takes."""
    return len(range(kept.start, kept.stop, kept.step or 1))


def _discretised(
    x: Inner, steps: Inner, rates: Float[Tensor, "inner state"], write: Coefficients
) -> tuple[States, States]:
    """Return by what the state is multiplied and what is added to it at each token."""
    return torch.exp(steps[..., None] * rates), (steps * x)[..., None] * write[:, :, None]


def one_step(
    x: Inner,
    steps: Inner,
    rates: Float[Tensor, "inner state"],
    write: Coefficients,
    read: Coefficients,
    start: Hidden,
) -> tuple[Inner, Kept]:
    """Return the output of a single token and the state after it, differentiably."""
    decays, inputs = _discretised(x, steps, rates, write)
    states = decays * start[:, None] + inputs
    return (states @ read[..., None])[..., 0], states


@cache
def installed_kernel() -> Kernel | None:
    """Return `mamba_ssm`'s fused scan, or None where it cannot be imported."""
    try:
        found: Kernel = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except (ImportError, OSError, AttributeError):
        return None
    return found


def fused(
    kernel: Kernel,
    x: Inner,
    steps: Inner,
    rates: Float[Tensor, "inner state"],
    write: Coefficients,
    read: Coefficients,
) -> tuple[Inner, Kept]:
    """Return outputs and last state by a kernel, which starts from zero and wants time last."""
    u, delta, b, c = (tensor.mT.contiguous() for tensor in (x, steps, write, read))
    outputs, last = kernel(u, delta, rates, b, c, return_last_state=True)
    return outputs.mT, last[:, None]


class Mixer(nn.Module):
    """The selective state-space model with its convolution and gate: figure 3, right."""

    def __init__(self, config: Config, *, depth: int) -> None:
        super().__init__()
        inner = config.expand * config.embed_dim
        self.d_state = config.d_state
        self.dt_rank = config.dt_rank or math.ceil(config.embed_dim / 16)
        self.tail_length = config.d_conv - 1
        self.in_proj = Linear(config.embed_dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner)
        self.x_proj = Linear(inner, self.dt_rank + 2 * self.d_state, bias=False)
        self.dt_proj = Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, self.d_state + 1).log().repeat(inner, 1))  # S4D-real
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = Linear(inner, config.embed_dim, bias=False)
        self._initialise(depth)

    @torch.no_grad()
    def _initialise(self, depth: int) -> None:
        """Draw step sizes from the range of section 3.6, and scale down what layers add to each other, as GPT-2 does.

        Log-uniformly, as S4D and the authors' code do, where the paper's text says uniformly.
        """
        bound = self.dt_rank**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        low, high = math.log(LEAST_STEP), math.log(GREATEST_STEP)
        steps = self.dt_proj.bias.uniform_(low, high).exp().clamp(min=STEP_FLOOR)
        self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus undone
        self.out_proj.weight.mul_(depth**-0.5)

    def has_decay(self, name: str) -> bool:
        """Return whether a parameter of none of the usual kinds decays: the convolution's weight does."""
        return name == "conv1d.weight"

    def forward(self, x: Sequence, past: Past | None, kept: slice) -> tuple[Sequence, Past]:
        """Return the mixed values, and the pasts after the tokens `kept`, one behind the other in the batch."""
        stream, gate = self.in_proj(x).chunk(2, dim=-1)
        convolved, tails = self._convolved(stream.mT, past, kept)
        outputs, states = self._scanned(convolved.mT, past, kept)
        mixed: Tensor = self.out_proj((outputs * F.silu(gate)).to(stream.dtype))
        return mixed, Past(tails, states.flatten(0, 1))

    def _convolved(
        self, stream: Float[Tensor, "batch inner length"], past: Past | None, kept: slice
    ) -> tuple[Float[Tensor, "batch inner length"], Float[Tensor, "pasts inner tail"]]:
        """Return each channel's causal convolution, and its last inputs at the tokens `kept`."""
        if past is None:
            seen = F.pad(stream, (self.tail_length, 0))
        else:
            seen = torch.cat([past.tail.to(stream.dtype), stream], dim=-1)
        tails = seen[..., 1:].unfold(-1, self.tail_length, 1)[:, :, kept]
        return F.silu(self.conv1d(seen)), rearrange(tails, "b inner n tail -> (b n) inner tail").clone()

    def _scanned(self, x: Inner, past: Past | None, kept: slice) -> tuple[Inner, Kept]:
        """Return the state-space model's output with its skip, and the states at `kept`; at least in float32."""
        low_rank, write, read = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        projected = F.linear(low_rank, self.dt_proj.weight)
        with torch.autocast(x.device.type, enabled=False):
            steps = F.softplus(_precise(projected) + self.dt_proj.bias)
            rates = -torch.exp(_precise(self.A_log))
            start = None if past is None else past.state
            x = _precise(x)
            outputs, states = _any_scan(x, steps, rates, _precise(write), _precise(read), start, kept)
            return outputs + self.D * x, states


def _any_scan(
    x: Inner,
    steps: Inner,
    rates: Float[Tensor, "inner state"],
    write: Coefficients,
    read: Coefficients,
    start: Hidden | None,
    kept: slice,
) -> tuple[Inner, Kept]:
    """Return outputs and states by the quickest way there is: a single step, the fused kernel, or the scan."""
    if x.shape[1] == 1 and start is not None:
        return one_step(x, steps, rates, write, read, start)
    if x.is_cuda and start is None and kept == _last(x.shape[1]) and (kernel := installed_kernel()):
        return fused(kernel, x, steps, rates, write, read)
    start = x.new_zeros(len(x), *rates.shape) if start is None else start
    outputs, states = SelectiveScan.apply(x, steps, rates, write, read, start, kept)
    return outputs, states


def _last(length: int) -> slice:
    """Return the slice of the last of so many tokens."""
    return slice(length - 1, length)


def _precise(x: Tensor) -> Tensor:
    """Return the numbers in float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Block(nn.Module):
    """A mixer whose input is normalised and whose output is added to it."""

    def __init__(self, config: Config, *, depth: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.embed_dim, eps=1e-5)
        self.mixer = Mixer(config, depth=depth)
        self.dropout = Dropout(config.resid_pdrop)

    def forward(self, x: Sequence, past: Past | None, kept: slice) -> tuple[Sequence, Past]:
        """Return the block's output, and the pasts after the tokens `kept`."""
        mixed, pasts = self.mixer(self.norm(x), past, kept)
        return x + self.dropout(mixed), pasts


class Mamba(nn.Module):
    """The backbone. A memory's size does not depend on how much was seen, and there is no window."""

    def __init__(self, config: Config, depth: int) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.window = None
        self.dropout = Dropout(config.embed_pdrop)
        self.blocks = nn.ModuleList(Block(config, depth=depth) for _ in range(depth))
        self.norm = nn.RMSNorm(config.embed_dim, eps=1e-5)

    def forward(self, embeddings: Sequence, memory: Pasts | None = None) -> tuple[Sequence, Pasts]:
        """Return the outputs at all positions and what the layers keep, see `Backbone`."""
        length = embeddings.shape[1]
        pasts = [None] * len(self.blocks) if memory is None else memory.layers
        x = self.dropout(embeddings)
        layers = []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, after = block(x, past, _last(length))
            layers.append(Past(after.tail.detach(), after.state.detach()))
        return self.norm(x), Pasts(layers, length + (0 if memory is None else memory.length))

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches, see `Backbone`: layer by layer the trunk, then all branches as one batch.

        A branch starts from the trunk's past at the token that it follows.
        """
        batch, length, _ = embeddings.shape
        num_branches = (length - 1) // every
        if num_branches == 0:
            return self(embeddings)[0], embeddings.new_zeros(batch, 0, *queries.shape)
        ends = slice(every - 1, num_branches * every, every)
        trunk = self.dropout(embeddings)
        branches = self.dropout(queries.expand(batch * num_branches, -1, -1))
        for block in self.blocks:
            trunk, pasts = block(trunk, None, ends)
            branches, _ = block(branches, pasts, _last(len(queries)))
        return self.norm(trunk), self.norm(branches).unflatten(0, (batch, num_branches))
