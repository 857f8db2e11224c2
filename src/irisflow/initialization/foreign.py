"""Checkpoints of other programs as a starting point: IRIS's own, and tokenizers of taming-transformers.

Such a file is a pickle, so it is opened in a process of its own (`foreign_child`), which hands over tensors and no more.
Where a tensor's name and shape fit, it is used; what was used and what was not is said and recorded.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from irisflow.errors import DataError
from irisflow.initialization import foreign_child
from irisflow.initialization.reference_names import from_reference, to_reference
from irisflow.progress import say
from irisflow.storage import sha256_of

MAX_BYTES = 8 << 30
MAX_SECONDS = 300
NUM_SHOWN = 6
# How taming-transformers (Esser et al. 2021) calls what IRIS, whose tokenizer descends from it, calls otherwise.
TAMING = {"quant_conv.": "pre_quant_conv.", "quantize.embedding.": "embedding."}
OWN_LOSS = "reconstruction."  # networks of the loss, which no foreign checkpoint decides


@dataclass(frozen=True)
class Loaded:
    """Which tensors of a foreign file a run starts from, by the file's names, and which it does not."""

    path: Path
    sha256: str
    used: list[str]
    unused: list[str]

    def record(self) -> dict[str, Any]:
        """Return this as JSON-able data, for the provenance."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "used": self.used,
            "unused": self.unused,
        }


def load_foreign(parts: Mapping[str, nn.Module], path: Path) -> Loaded:
    """Load what fits of a foreign checkpoint into the named parts of an agent and return what that was.

    Raises DataError if the file cannot be read safely, or nothing of it fits: then nothing was loaded.
    """
    tensors, digest = read_foreign(path), sha256_of(path)
    fitting = {part: _fitting(part, module, _named_for(part, tensors)) for part, module in parts.items()}
    used = sorted(name for found in fitting.values() for name in found)
    unused = sorted(tensors.keys() - set(used))
    if not used:
        raise DataError(
            f"{path}: none of its {len(tensors)} tensors ({_shown(unused)}) fits in name and shape what is to be loaded"
            f" ({', '.join(parts) or 'nothing: every initialization.load_ key is false'})."
            " Allowed: a checkpoint of IRIS, or a VQGAN of taming-transformers, made with the sizes of this run."
        )
    for name in used:
        if not bool(torch.isfinite(tensors[name]).all()):
            raise DataError(
                f"{path}: {name} holds a number that is not finite. Allowed: a checkpoint of a sound training."
            )
    for part, module in parts.items():
        _load(part, module, {ours: tensors[name] for name, ours in fitting[part].items()})
    say(f"{path}: used {len(used)} tensors as a start: {_shown(used)}")
    say(f"{path}: not used: {len(unused)} tensors{': ' if unused else ''}{_shown(unused)}")
    return Loaded(path, digest, used, unused)


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name. Nothing that the file holds is run.

    Raises DataError if it is too large, damaged, holds other things than tensors, or takes too much to read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(
            f"{path} has {size / 2**30:.0f} GiB; allowed: a checkpoint of up to {MAX_BYTES >> 30} GiB."
        )
    with tempfile.TemporaryDirectory(prefix="irisflow-") as folder:
        target = Path(folder) / "tensors.safetensors"
        memory = (1 << 30) + 4 * size
        command = [sys.executable, "-I", foreign_child.__file__, str(path.absolute()), str(target)]
        try:
            result = subprocess.run(
                [*command, str(memory), str(MAX_SECONDS)],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=2 * MAX_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DataError(_refusal(path, "it takes too long to read")) from None
        if result.returncode:
            said = result.stdout.strip().splitlines()
            raise DataError(_refusal(path, said[-1] if said else "reading it takes more than is allowed"))
        return load(target.read_bytes())


def _refusal(path: Path, reason: str) -> str:
    return (
        f"{path} is no checkpoint that can be read safely: {reason}. Allowed: a file by torch.save that holds a state dict"
        " of tensors, or one under `state_dict`."
    )


def _named_for(part: str, tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Return the tensors that may belong to a part of IRIS's, by IRIS's name: the file's name and the tensor."""
    prefix = f"{part}."
    if any(name.startswith(("tokenizer.", "world_model.", "actor_critic.")) for name in tensors):
        return {
            name.removeprefix(prefix): (name, t) for name, t in tensors.items() if name.startswith(prefix)
        }
    if part != "tokenizer":
        return {}
    return {_from_taming(name): (name, tensor) for name, tensor in tensors.items()}


def _from_taming(name: str) -> str:
    for theirs, iris in TAMING.items():
        if name.startswith(theirs):
            return name.replace(theirs, iris, 1)
    return name


def _fitting(part: str, module: nn.Module, found: Mapping[str, tuple[str, Tensor]]) -> dict[str, str]:
    """Return the file's names of the tensors that fit in name and shape, and IRIS's names for them."""
    expected = to_reference(part, _decided(module))
    return {
        found[name][0]: name
        for name, tensor in expected.items()
        if name in found and _fits(tensor, found[name][1])
    }


def _fits(expected: Tensor, found: Tensor) -> bool:
    both_real = expected.is_floating_point() and found.is_floating_point()
    return expected.shape == found.shape and (both_real or expected.dtype == found.dtype)


def _load(part: str, module: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Replace the tensors of a module that IRIS's names choose."""
    here = module.state_dict()
    theirs = to_reference(part, _decided(module))
    theirs |= {name: tensor.to(theirs[name]) for name, tensor in chosen.items()}
    module.load_state_dict(here | from_reference(part, theirs))


def _decided(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(OWN_LOSS)}


def _shown(names: Iterable[str]) -> str:
    """Return the first names, and how many others there are."""
    listed = list(names)
    rest = len(listed) - NUM_SHOWN
    more = f" and {rest} more (provenance.json has all)" if rest > 0 else ""
    return ", ".join(listed[:NUM_SHOWN]) + more
