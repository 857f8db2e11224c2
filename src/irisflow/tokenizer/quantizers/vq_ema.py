"""Vector quantization whose codes are moving averages of the latents that chose them. VQ-VAE, appendix A.1."""

from dataclasses import dataclass

from irisflow.tokenizer.quantizers._moving_averages import EmaQuantizer, codebook

LEAST = {"vocab_size": 2, "embed_dim": 1, "beta": 0, "decay": 0, "revive_below": 0}


@dataclass(frozen=True)
class Config:
    """Size of the codebook, weight of the commitment term, pace of the averages, and what keeps codes in use.

    `decay` is the weight of the past in an average. A code that, by its moving average, fewer latents than
    `revive_below` choose in a batch moves onto a random latent; 0: never.
    """

    vocab_size: int
    embed_dim: int
    beta: float
    decay: float = 0.99
    revive_below: float = 0.0


def build(config: Config) -> EmaQuantizer:
    """Return the quantizer. Raises ConfigError for a decay that is not a share."""
    return codebook(config)
