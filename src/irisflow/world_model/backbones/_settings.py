"""What several backbones ask of their settings."""

from irisflow.errors import ConfigError


def check_heads(num_heads: int, embed_dim: int) -> None:
    """Raise ConfigError unless the heads share the width evenly."""
    if embed_dim % num_heads:
        raise ConfigError(
            f"world_model.num_heads: {num_heads} heads do not divide embed_dim {embed_dim}."
            " Allowed: a divisor of it."
        )


def check_causal(attention: str, backbone: str) -> None:
    """Raise ConfigError for an attention that this backbone does not have."""
    if attention != "causal":
        raise ConfigError(
            f"world_model.attention: the backbone {backbone} has no {attention!r}. Allowed: causal."
        )


def check_room(num_tokens: int, window: int) -> None:
    """Raise ConfigError if a sequence does not fit into the window."""
    if num_tokens > window:
        raise ConfigError(
            f"world_model.max_blocks: a sequence of {num_tokens} tokens exceeds the window of"
            f" {window} (max_blocks x tokens_per_block)."
            " Raise max_blocks, or lower common.sequence_length."
        )


def hidden_dim(embed_dim: int, multiple: float) -> int:
    """Return the multiple of the width, rounded to the nearest multiple of 8, at least 8."""
    return max(8, 8 * round(multiple * embed_dim / 8))
