"""A function of tensors and noise, recorded once on a GPU and replayed as one CUDA graph.

A rollout is some 25,000 small kernels; launched one by one from Python, most of its time is waiting for the next one.
Replayed, none waits. On other devices the same function is simply called again, with the same numbers.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from irisflow.randomness import CountedNoise, DrawnNoise, Source

Outputs = tuple[Tensor, ...]
Function = Callable[[tuple[Tensor, ...], Source], Outputs]
NUM_WARM_UPS = 2


class Replayed:
    """The function. It must read no value of a tensor, draw from its source only, and take no gradient.

    Weights that it uses may change in place between calls, not move. There is one recording for each shape of inputs.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}

    @torch.no_grad()
    def __call__(self, inputs: tuple[Tensor, ...], generator: torch.Generator) -> Outputs:
        """Return what the function does, with numbers that the generator draws all at once."""
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._recordings:
            self._recordings[shapes] = _record(self._function, inputs)
        return self._recordings[shapes].replay(inputs, generator)


@dataclass
class _Recording:
    """Where a recorded function reads its inputs and numbers, and how it is done again."""

    inputs: tuple[Tensor, ...]
    numbers: Float[Tensor, " numbers"]
    again: Callable[[], Outputs]

    def replay(self, inputs: tuple[Tensor, ...], generator: torch.Generator) -> Outputs:
        """Return the outputs; they stay as they are when it is replayed again."""
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given)
        self.numbers.uniform_(generator=generator)
        return tuple(output.clone() for output in self.again())


def _record(function: Function, inputs: tuple[Tensor, ...]) -> _Recording:
    held = tuple(tensor.clone() for tensor in inputs)
    device = held[0].device
    noise = CountedNoise(torch.Generator(device).manual_seed(0))
    function(held, noise)
    numbers = torch.empty(noise.num_used, dtype=torch.float64, device=device)

    def again() -> Outputs:
        return function(held, DrawnNoise(numbers))

    return _Recording(held, numbers, _captured(again) if device.type == "cuda" else again)


def _captured(function: Callable[[], Outputs]) -> Callable[[], Outputs]:
    """Return what replays the function as a CUDA graph; the function itself, and a line, where CUDA cannot record it.

    Autocast must not keep converted weights across the recording: they would be those of this moment for ever.
    """
    graph, is_cached = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        _warm_up(function)
        with torch.cuda.graph(graph):
            outputs = function()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        sys.stderr.write(f"irisflow: imagination runs without a CUDA graph, more slowly: {reason}\n")
        return function
    finally:
        torch.set_autocast_cache_enabled(is_cached)

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay


def _warm_up(function: Callable[[], Outputs]) -> None:
    """Call the function beside the main stream, so that what libraries set up at a first call is not recorded."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(NUM_WARM_UPS):
            function()
    torch.cuda.current_stream().wait_stream(stream)
