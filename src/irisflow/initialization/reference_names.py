"""Parameter names of the reference implementation's checkpoints, and ours for the same tensors.

Ours differ in words, and in that query, key and value are one tensor. Both directions are pure functions on
one component's tensors: weights, gradients, or anything of their shape. The components are `tokenizer`,
`world_model` and `actor_critic`; the reference's prefix of that name is not part of the names here.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from irisflow.errors import DataError

# (in the reference's name, in ours): replaced in this order in both directions; `^` is the start of a name
WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "tokenizer": (
        ("encoder.down.", "encoder.levels."),
        ("decoder.up.", "decoder.levels."),
        (".block.", ".blocks."),
        (".attn.", ".attentions."),
        (".downsample.conv.", ".resample.down."),
        (".upsample.conv.", ".resample.up."),
        (".mid.block_1.", ".middle.0."),
        (".mid.attn_1.", ".middle.1."),
        (".mid.block_2.", ".middle.2."),
        (".nin_shortcut.", ".shortcut."),
        (".proj_out.", ".out."),
        ("^embedding.", "^quantizer.codebook."),
    ),
    "world_model": (
        ("^transformer.ln_f.", "^backbone.norm."),
        ("^pos_emb.", "^backbone.positions."),
        ("^transformer.", "^backbone."),
        (".ln1.", ".norm1."),
        (".ln2.", ".norm2."),
        (".attn.", ".attention."),
        (".proj.", ".out."),
        ("^embedder.embedding_tables.0.", "^embedding.actions."),
        ("^embedder.embedding_tables.1.", "^embedding.frame_tokens."),
        ("^head_observations.head_module.", "^prediction.head."),
        ("^head_rewards.head_module.", "^reward_head."),
        ("^head_ends.head_module.", "^end_head."),
    ),
    "actor_critic": (
        ("^conv1.", "^convolutions.0."),
        ("^conv2.", "^convolutions.1."),
        ("^conv3.", "^convolutions.2."),
        ("^conv4.", "^convolutions.3."),
        ("^critic_linear.", "^critic."),
        ("^actor_linear.", "^actor."),
    ),
}
PARTS = {"tokenizer": ("q", "k", "v"), "world_model": ("query", "key", "value"), "actor_critic": ()}
# held by the reference's checkpoints, but no part of the model's own weights
LEFT_OUT = re.compile(r"lpips\..*|.*\.(mask|indices)")


def from_reference(component: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; LPIPS, masks and index buffers are left out.

    Raises DataError if one of query, key and value is missing.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not LEFT_OUT.fullmatch(name)}
    ours: dict[str, Tensor] = {}
    for name in kept:
        parts = _parts(component, name)
        missing = [part for part in parts if part not in kept]
        if missing:
            raise DataError(f"the {component} has {name} but not {', '.join(missing)}: a tensor is missing")
        our_name = _replaced(_fused(name, parts), WORDS[component])
        ours[our_name] = torch.cat([kept[part] for part in parts]) if parts else kept[name]
    return ours


def to_reference(component: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the reference's names."""
    backwards = tuple((ours, reference) for reference, ours in WORDS[component])
    theirs: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        their_name = _replaced(name, backwards)
        before, fused, leaf = their_name.rpartition(".qkv.")
        if fused:
            names = [f"{before}.{part}.{leaf}" for part in PARTS[component]]
            theirs |= zip(names, tensor.chunk(len(names)), strict=True)
        else:
            theirs[their_name] = tensor
    return theirs


def _parts(component: str, name: str) -> list[str]:
    """Return the reference's names of query, key and value if this is one of them, else nothing."""
    *before, word, leaf = name.split(".")
    names = PARTS[component]
    return [".".join([*before, part, leaf]) for part in names] if word in names else []


def _fused(name: str, parts: list[str]) -> str:
    if not parts:
        return name
    *before, _, leaf = name.split(".")
    return ".".join([*before, "qkv", leaf])


def _replaced(name: str, words: tuple[tuple[str, str], ...]) -> str:
    marked = f"^{name}"
    for old, new in words:
        marked = marked.replace(old, new)
    return marked.removeprefix("^")
