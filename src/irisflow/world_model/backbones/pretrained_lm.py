"""A language model's Transformer, pretrained on text, as the sequence model of a world model.

Its blocks read our embeddings in place of its words' (`inputs_embeds`), and our heads read its last normalised outputs.
What trains, besides our embeddings and heads, is the `mode`:

- `full`: everything.
- `frozen`: its normalisation layers and, where it has them, its learned positions; attention and perceptrons stay as
  published. Lu et al. (2021), "Pretrained Transformers as Universal Computation Engines", section 2.2.
- `lora`: low-rank updates of the projections that peft names for the architecture (query and value of Llama and BERT,
  all three of GPT-2; every linear layer where it names none). Hu et al. (2021), "LoRA", section 4.

With `pretrained: false` the same architecture starts from random weights: the control that says what pretraining does.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, inject_adapter_in_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.pytorch_utils import Conv1D

from irisflow.errors import ConfigError
from irisflow.world_model import language_models
from irisflow.world_model.backbones._settings import check_causal, check_room
from irisflow.world_model.backbones.base import (
    Branches,
    Sequence,
    branched,
    branched_positions,
    branched_visibility,
    branches_one_by_one,
    split_branches,
)
from irisflow.world_model.language_models import KEY

MODES = ("full", "frozen", "lora")
LEAST = {
    "num_layers": 0,
    "max_tokens": 1,
    "embed_pdrop": 0,
    "resid_pdrop": 0,
    "attn_pdrop": 0,
    "lora_rank": 1,
    "lora_alpha": 1,
    "lora_dropout": 0,
}
DROPOUTS = {  # ours -> what the architectures call it
    "embed_pdrop": ("embd_pdrop", "emb_pdrop", "embed_dropout"),
    "resid_pdrop": ("resid_pdrop", "resid_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout"),
    "attn_pdrop": ("attn_pdrop", "attention_probs_dropout_prob", "attention_dropout"),
}


@dataclass(frozen=True)
class Config:
    """Where the model comes from, how many of its first blocks are kept (0: all), what trains, and the window.

    The three dropouts apply where the architecture has such a one.
    """

    source: str
    num_layers: int
    max_tokens: int
    attention: str
    embed_pdrop: float
    resid_pdrop: float
    attn_pdrop: float
    weights_sha256: str = ""
    revision: str = "main"
    pretrained: bool = True
    mode: str = "full"
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0


def build(config: Config) -> "PretrainedLM":
    """Return the backbone. Raises ConfigError, DataError or ResourceError if the language model cannot be had or used."""
    _check_words(config)
    path = language_models.located(config.source, revision=config.revision)
    language_models.check_digest(path, config.weights_sha256)
    settings = _adapted(config, language_models.configuration(path))
    network, width = language_models.blocks(path, settings, pretrained=config.pretrained)
    TRAINABLE[config.mode](network, config)
    backbone = PretrainedLM(network, embed_dim=width, window=config.max_tokens)
    if not is_causal(backbone):
        raise language_models.not_causal(path, settings.model_type)
    backbone.branches_in_one_pass = heeds_masks(backbone)
    return backbone


def _check_words(config: Config) -> None:
    """Raise ConfigError for a mode that does not exist, or an attention that a language model does not have."""
    if config.mode not in MODES:
        raise ConfigError(f"{KEY}.mode: {config.mode!r} does not exist. Allowed: {', '.join(MODES)}.")
    check_causal(config.attention, "pretrained_lm")


def _adapted(config: Config, published: Any) -> Any:
    """Return the language model's configuration with our number of blocks and dropouts.

    Raises ConfigError where it has fewer blocks or a shorter reach than is asked for.
    """
    settings, available = copy.deepcopy(published), published.num_hidden_layers
    if config.num_layers > available:
        raise ConfigError(
            f"{KEY}.num_layers: {config.num_layers} of the blocks of {config.source} were asked for."
            f" Allowed: 1 to {available}, or 0 for all."
        )
    reaches = [getattr(published, name, None) for name in ("max_position_embeddings", "sliding_window")]
    reach = min([reach for reach in reaches if reach], default=config.max_tokens)
    if config.max_tokens > reach:
        raise ConfigError(
            f"world_model.max_blocks: a window of {config.max_tokens} tokens (max_blocks x tokens_per_block)"
            f" exceeds the {reach} positions of {config.source}. Lower max_blocks."
        )
    settings.num_hidden_layers = config.num_layers if config.num_layers > 0 else available
    if getattr(settings, "layer_types", None):
        settings.layer_types = settings.layer_types[: settings.num_hidden_layers]
    for ours, names in DROPOUTS.items():
        for name in names:
            if hasattr(settings, name):
                setattr(settings, name, getattr(config, ours))
    return settings


def _all_trainable(network: nn.Module, config: Config) -> None:
    """Leave every parameter trainable."""
    del network, config


def _norms_trainable(network: nn.Module, config: Config) -> None:
    """Let only normalisation layers train, and tables with a row for each position of the window."""
    network.requires_grad_(False)
    for module in network.modules():
        is_norm = type(module).__name__.endswith("Norm")
        is_position = isinstance(module, nn.Embedding) and module.num_embeddings >= config.max_tokens
        if is_norm or is_position:
            module.requires_grad_(True)


def _lora_trainable(network: nn.Module, config: Config) -> None:
    """Add low-rank updates, and let only them train."""
    network.requires_grad_(False)
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    settings: Any = network.config
    targets = None if settings.model_type in known else "all-linear"
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in network.modules()),
    )
    inject_adapter_in_model(lora, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)


TRAINABLE = {"full": _all_trainable, "frozen": _norms_trainable, "lora": _lora_trainable}


@dataclass(frozen=True)
class KeysValues:
    """The cache of transformers, of which the first `length` tokens count: continuing drops what lies behind them."""

    cache: Cache
    length: int

    def rewound(self) -> Cache:
        """Return the cache with exactly `length` tokens, through which no gradient flows. Nothing is copied."""
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.keys = layer.keys[..., : self.length, :].detach()
            layer.values = layer.values[..., : self.length, :].detach()
        return self.cache


class PretrainedLM(nn.Module):
    """The backbone: a language model's blocks, without its words."""

    def __init__(self, network: nn.Module, *, embed_dim: int, window: int) -> None:
        super().__init__()
        self.network: Any = network
        self.embed_dim = embed_dim
        self.window = window
        self.branches_in_one_pass = False

    def forward(self, embeddings: Sequence, memory: KeysValues | None = None) -> tuple[Sequence, KeysValues]:
        """Return the outputs at all positions and the cache, see `Backbone`."""
        stop = embeddings.shape[1] + (0 if memory is None else memory.length)
        check_room(stop, self.window)
        cache = DynamicCache() if memory is None else memory.rewound()
        seen = self.network(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        return seen.last_hidden_state, KeysValues(cache, stop)

    def branch(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches, in one pass if the architecture heeds masks and positions. See `Backbone`."""
        check_room((embeddings.shape[1] - 1) // every * every + len(queries), self.window)
        if self.branches_in_one_pass:
            return self.branch_in_one_pass(embeddings, queries, every=every)
        return branches_one_by_one(self, embeddings, queries, every=every)

    def branch_in_one_pass(
        self, embeddings: Sequence, queries: Float[Tensor, "queries embed"], *, every: int
    ) -> tuple[Sequence, Branches]:
        """Return trunk and branches, provided that the architecture heeds masks and positions."""
        length, num_queries = embeddings.shape[1], len(queries)
        visible = branched_visibility(length, num_queries, every=every).to(embeddings.device)
        hidden = torch.finfo(embeddings.dtype).min
        mask = torch.zeros(visible.shape, dtype=embeddings.dtype, device=embeddings.device)
        seen = self.network(
            inputs_embeds=branched(embeddings, queries, every=every),
            attention_mask=mask.masked_fill(~visible, hidden)[None, None],
            position_ids=branched_positions(length, num_queries, every=every).to(embeddings.device)[None],
            use_cache=False,
        )
        return split_branches(seen.last_hidden_state, length, num_queries)

    def has_decay(self, name: str) -> bool:
        """Return whether a parameter decays that is no Linear's, table's or norm's of torch: if it is a matrix."""
        return self.get_parameter(name).dim() > 1


@torch.no_grad()
def is_causal(backbone: PretrainedLM) -> bool:
    """Return whether stepping with the cache gives what one pass gives, on three tokens: nothing sees the future."""
    tokens = _sample(backbone, min(3, backbone.window))
    try:
        expected, _ = backbone.eval()(tokens)
        memory, outputs = None, []
        for position in range(tokens.shape[1]):
            output, memory = backbone(tokens[:, position : position + 1], memory)
            outputs.append(output)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, IndexError):
        return False
    finally:
        backbone.train()
    return expected.shape == tokens.shape and _agree(torch.cat(outputs, dim=1), expected)


@torch.no_grad()
def heeds_masks(backbone: PretrainedLM) -> bool:
    """Return whether branches in one pass are what one pass for each gives, on four tokens."""
    if backbone.window < 4:
        return False
    tokens = _sample(backbone, 4)
    try:
        backbone.eval()
        trunk, branches = backbone.branch_in_one_pass(tokens, tokens[0, :1], every=2)
        slow_trunk, slow_branches = branches_one_by_one(backbone, tokens, tokens[0, :1], every=2)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, IndexError):
        return False
    finally:
        backbone.train()
    return _agree(trunk, slow_trunk) and _agree(branches, slow_branches)


def _sample(backbone: PretrainedLM, length: int) -> Tensor:
    return torch.randn(1, length, backbone.embed_dim, generator=torch.Generator().manual_seed(0))


def _agree(outputs: Tensor, expected: Tensor) -> bool:
    """Return whether two results are the same but for rounding."""
    return bool((outputs - expected).abs().max() <= 1e-4 * expected.abs().max())
