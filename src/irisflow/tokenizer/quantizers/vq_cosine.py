"""Vector quantization by angle, with revival of codes that nothing chooses.

Latents and codes have length 1, so that the nearest code is the one with the largest cosine: Yu et al. 2022,
"Vector-quantized Image Modeling with Improved VQGAN", section 3.2. Codes are moving averages as in `vq_ema`, scaled back to
length 1, as in Peng et al. 2022, "BEiT v2", section 2.
"""

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
    decay: float = 0.9
    revive_below: float = 0.1


def build(config: Config) -> EmaQuantizer:
    """Return the quantizer. Raises ConfigError for a decay that is not a share."""
    return codebook(config, is_cosine=True)
