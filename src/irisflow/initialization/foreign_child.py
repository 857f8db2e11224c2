"""Turns a checkpoint of torch into safetensors, in a process of its own that may use little: run as a script.

    python -I foreign_child.py CHECKPOINT TARGET MAX_MEMORY MAX_SECONDS

`torch.load` with `weights_only=True` unpickles tensors and plain containers and refuses everything else before it is made;
this process is there for what that leaves: a file that asks for too much memory, time or disk. Only tensors leave it, by
name. Where it fails, one line on stdout says why.
"""

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

# PyTorch Lightning puts its own classes beside the weights, as names of callbacks. They stand for nothing here.
HARMLESS = "pytorch_lightning."


class Placeholder:
    """Stands where the file names a class of PyTorch Lightning: it holds nothing and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def main() -> int:
    """Return 0 when the target is written."""
    source, target, memory, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    limit(memory=memory, seconds=seconds)
    try:
        tensors = by_name(loaded(source))
        if not tensors:
            print("it holds no tensors by name")
            return 1
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, target)
    except MemoryError:
        print("it needs too much memory")
        return 1
    except Exception as error:
        print(reason(error))
        return 1
    return 0


def limit(*, memory: int, seconds: int) -> None:
    """Bound the address space that is taken from now on, the processor time, and the size of a written file."""
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, taken + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def loaded(source: Path) -> Any:
    """Return what the checkpoint holds. Raises whatever torch raises where that is more than tensors and containers."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    except Exception:  # no archive: older checkpoints are one pickle after another, and are read below
        named = []
    stand_ins: list[Any] = [(Placeholder, name) for name in named if name.startswith(HARMLESS)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(source, map_location="cpu", weights_only=True)


def by_name(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, which may be one entry of the checkpoint, `state_dict`."""
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    pairs = inner.items() if isinstance(inner, Mapping) else ()
    return {
        name: value
        for name, value in pairs
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
    }


def reason(error: Exception) -> str:
    """Return one short line on what is wrong with the file."""
    text = " ".join(str(error).split())
    if "Unsupported" in text or "weights_only" in text.lower():
        _, _, found = text.partition("WeightsUnpickler error: ")
        return f"it holds more than tensors ({found[:120] or 'no details'}), and nothing of it was run"
    if isinstance(error, RuntimeError) and "allocate memory" in text:
        return "it needs too much memory"
    return f"it cannot be read ({type(error).__name__}: {text[:120]})"


if __name__ == "__main__":
    sys.exit(main())
