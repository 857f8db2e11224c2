"""What every quantizer gives."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

Vectors = Float[Tensor, "batch positions embed"]
Map = Float[Tensor, "batch embed height width"]


def as_vectors(latents: Map) -> Vectors:
    """Return a map's vectors, row by row."""
    vectors: Tensor = rearrange(latents, "b e h w -> b (h w) e")
    return vectors.contiguous()


def as_map(vectors: Vectors, *, height: int) -> Map:
    """Return the map, `height` rows high, whose vectors these are."""
    found: Tensor = rearrange(vectors, "b (h w) e -> b e h w", h=height)
    return found.contiguous()


@dataclass(frozen=True)
class Quantized:
    """A map of latents and its discrete codes; `tokens` run row by row."""

    latents: Float[Tensor, "batch embed height width"]  # the codes in value, the encoder's output in gradient
    codes: Float[Tensor, "batch embed height width"]
    tokens: Int64[Tensor, "batch tokens"]
    loss: Float[Tensor, ""]


@runtime_checkable
class Quantizer(Protocol):
    """A module between encoder and decoder; its token values are below `vocab_size`.

    A position of the map has one token or more; those of one position are neighbours.
    """

    vocab_size: int
    tokens_per_position: int

    def __call__(self, latents: Float[Tensor, "batch embed height width"]) -> Quantized:
        """Return the codes of continuous latents."""
        ...

    def lookup(
        self, tokens: Int64[Tensor, "batch tokens"], *, height: int
    ) -> Float[Tensor, "batch embed height width"]:
        """Return the map of codes that tokens stand for, `height` rows high."""
        ...
