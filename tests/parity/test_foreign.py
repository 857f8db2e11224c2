"""Checkpoints of IRIS and of taming-transformers as a starting point; files that are no such thing run nothing."""

import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import checks_tokenizer
import checks_world_model
import pytest
import torch
from fixture import FOLDER, config, weights
from torch import Tensor, nn

from irisflow.errors import DataError
from irisflow.initialization import foreign
from irisflow.initialization.foreign import load_foreign, read_foreign
from irisflow.tokenizer.tokenizer import build_tokenizer
from irisflow.world_model.world_model import build_world_model

TOKENIZER, WORLD_MODEL = weights(FOLDER, "tokenizer_weights"), weights(FOLDER, "world_model_weights")


def fresh_tokenizer() -> nn.Module:
    torch.manual_seed(0)
    return build_tokenizer(checks_tokenizer.settings(config(FOLDER)["scale"]))


def fresh_world_model(num_actions: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    whole = config(FOLDER)
    scale = whole["scale"]
    return build_world_model(
        checks_world_model.settings(scale),
        vocab_size=scale["vocab"],
        num_actions=num_actions or whole["num_actions"],
        tokens_per_frame=scale["tpb"] - 1,
    )


def iris_checkpoint() -> dict[str, Tensor]:
    """Return an agent's state as IRIS saves it, with what it holds beside the weights."""
    mask = {"world_model.transformer.blocks.0.attn.mask": torch.ones(2, 2)}
    lpips = {"tokenizer.lpips.lin0.model.1.weight": torch.ones(1)}
    tokenizer = {f"tokenizer.{name}": tensor for name, tensor in TOKENIZER.items()}
    world_model = {f"world_model.{name}": tensor for name, tensor in WORLD_MODEL.items()}
    return OrderedDict({**tokenizer, **lpips, **world_model, **mask})


def taming_checkpoint() -> dict[str, Any]:
    """Return a checkpoint as PyTorch Lightning saves a VQGAN: other names, a loss, and classes among the callbacks."""
    words = {"pre_quant_conv.": "quant_conv.", "embedding.": "quantize.embedding."}
    state = {}
    for name, tensor in TOKENIZER.items():
        old = next((ours for ours in words if name.startswith(ours)), "")
        state[name.replace(old, words[old], 1) if old else name] = tensor
    state["loss.discriminator.main.0.weight"] = torch.ones(3)
    callback = sys.modules["pytorch_lightning.callbacks.model_checkpoint"].ModelCheckpoint
    return {"epoch": 3, "state_dict": state, "callbacks": {callback: {"best_model_score": torch.ones(())}}}


@pytest.fixture(autouse=True)
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module by the name of PyTorch Lightning's, to save what its checkpoints hold; the child has none."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_a_checkpoint_of_iris_gives_all_of_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"tokenizer": fresh_tokenizer(), "world_model": fresh_world_model()}
    found = load_foreign(parts, saved(iris_checkpoint(), tmp_path / "last.pt"))
    reference = checks_tokenizer.reference_tokenizer(FOLDER), checks_world_model.reference_world_model(FOLDER)
    for part, expected in zip(parts.values(), reference, strict=True):
        ours = part.state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in expected.state_dict().items())
    beside = ["tokenizer.lpips.lin0.model.1.weight", "world_model.transformer.blocks.0.attn.mask"]
    assert found.unused == beside and len(found.used) == len(TOKENIZER) + len(WORLD_MODEL)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert f"used {len(found.used)} tensors" in lines[0] and f"not used: 2 tensors: {beside[0]}" in lines[1]


def test_a_vqgan_gives_a_tokenizer_that_encodes_as_the_reference_does(tmp_path: Path) -> None:
    tokenizer = fresh_tokenizer().eval()
    found = load_foreign(
        {"tokenizer": tokenizer, "world_model": fresh_world_model()},
        saved(taming_checkpoint(), tmp_path / "last.ckpt"),
    )
    assert found.unused == ["loss.discriminator.main.0.weight"]
    assert {"quantize.embedding.weight", "quant_conv.bias"} <= set(found.used)
    images = torch.rand(2, 3, *[config(FOLDER)["scale"]["res"]] * 2)
    reference = checks_tokenizer.reference_tokenizer(FOLDER).eval()
    assert torch.equal(tokenizer.encode(images), reference.encode(images))
    assert not torch.equal(tokenizer.encode(images), fresh_tokenizer().eval().encode(images))


def test_what_has_another_shape_stays_fresh_and_is_named(tmp_path: Path) -> None:
    world_model = fresh_world_model(num_actions=11)
    before = world_model.state_dict()["embedding.actions.weight"].clone()
    found = load_foreign({"world_model": world_model}, saved(iris_checkpoint(), tmp_path / "last.pt"))
    assert "world_model.embedder.embedding_tables.0.weight" in found.unused
    assert torch.equal(world_model.state_dict()["embedding.actions.weight"], before)
    theirs = WORLD_MODEL["embedder.embedding_tables.1.weight"]
    assert torch.equal(world_model.state_dict()["embedding.frame_tokens.weight"], theirs)
    assert not any(name.startswith("tokenizer.") for name in found.used), "it was not to be loaded"


def test_half_precision_is_a_start_too(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in TOKENIZER.items()}
    tokenizer = fresh_tokenizer()
    load_foreign({"tokenizer": tokenizer}, saved({"state_dict": halves}, tmp_path / "half.ckpt"))
    codebook = tokenizer.state_dict()["quantizer.codebook.weight"]
    assert codebook.dtype == torch.float32 and torch.equal(codebook, halves["embedding.weight"].float())


def refusal(path: Path) -> str:
    """Return the one line with which a file is refused, after checking that nothing was loaded."""
    tokenizer = fresh_tokenizer()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    with pytest.raises(DataError) as error:
        load_foreign({"tokenizer": tokenizer}, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    return str(error.value)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_file_with_code_runs_none_of_it(tmp_path: Path, is_archive: bool) -> None:
    proof = tmp_path / "proof"
    content = {"state_dict": {**TOKENIZER, "trap": Touch(proof)}}
    path = tmp_path / "trap.pt"
    torch.save(content, path, _use_new_zipfile_serialization=is_archive)
    assert "holds more than tensors" in refusal(path)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Touch(proof)))
    assert proof.exists(), "the trap works where it is unpickled"


def test_a_plain_pickle_and_a_class_that_calls_itself_lightning_run_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Touch(proof)))
    refusal(tmp_path / "plain.pt")
    callback = sys.modules["pytorch_lightning.callbacks.model_checkpoint"].ModelCheckpoint()
    callback.state = Touch(proof)
    refusal(saved({"state_dict": TOKENIZER, "callbacks": callback}, tmp_path / "posed.ckpt"))
    assert not proof.exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = saved(iris_checkpoint(), tmp_path / "last.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refusal(tmp_path / "half.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    assert "cannot be read" in refusal(tmp_path / "empty.pt")


def test_a_huge_file_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "1024 GiB; allowed: a checkpoint of up to 8 GiB" in refusal(path)


def test_a_small_file_that_unpacks_to_much_is_stopped_by_its_memory_limit(tmp_path: Path) -> None:
    path = saved({"encoder.conv_in.weight": torch.zeros(1).expand(1 << 40)}, tmp_path / "bomb.pt")
    assert path.stat().st_size < 10_000
    assert "too much memory" in refusal(path)


def test_a_file_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_SECONDS", 0)
    with pytest.raises(DataError, match="takes"):
        read_foreign(saved(iris_checkpoint(), tmp_path / "last.pt"))


def test_a_file_of_which_nothing_fits_is_refused_with_what_it_has(tmp_path: Path) -> None:
    line = refusal(saved({"features.0.weight": torch.ones(3)}, tmp_path / "vgg.pt"))
    assert "none of its 1 tensors (features.0.weight) fits" in line and "tokenizer" in line
    assert "no tensors by name" in refusal(saved([torch.ones(3)], tmp_path / "list.pt"))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = iris_checkpoint()
    broken["tokenizer.embedding.weight"] = torch.full_like(broken["tokenizer.embedding.weight"], torch.nan)
    assert "tokenizer.embedding.weight holds a number that is not finite" in refusal(
        saved(broken, tmp_path / "broken.pt")
    )
