"""How a tokenizer uses its codes."""

import torch
from jaxtyping import Int64
from torch import Tensor


def codebook_use(tokens: Int64[Tensor, "*frames tokens"], *, vocab_size: int) -> tuple[float, float]:
    """Return the perplexity of the codes, exp of their entropy, and the share that occurs at least once.

    Both grow with the number of tokens, until that is large against the codebook.
    """
    counts = torch.bincount(tokens.flatten(), minlength=vocab_size).double()
    shares = counts[counts > 0] / counts.sum()
    return float(torch.exp(-(shares * shares.log()).sum())), len(shares) / vocab_size


def most_frequent(tokens: Int64[Tensor, "*frames tokens"], *, vocab_size: int) -> dict[int, float]:
    """Return the share of all tokens that the k most frequent codes have, for k = 1, 2, 4, ... and the whole codebook.

    A codebook used evenly has k / vocab_size, a collapsed one 1 for every k.
    """
    counts = torch.bincount(tokens.flatten(), minlength=vocab_size).sort(descending=True).values
    found = counts.cumsum(dim=0).double() / counts.sum()
    doubled = [2**power for power in range(vocab_size.bit_length()) if 2**power < vocab_size]
    return {k: float(found[k - 1]) for k in (*doubled, vocab_size)}
