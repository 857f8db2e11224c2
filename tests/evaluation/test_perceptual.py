"""LPIPS is measured with its published weights or not at all, and nothing is downloaded for it."""

from pathlib import Path

import pytest
import torch
from tiny_catch import CPU, WINDOW, make_tokenizer, make_world_model, recorded

from irisflow.evaluation.perceptual import lpips_distances, published_lpips
from irisflow.evaluation.world_model_quality import examine, tokenizer_quality, yardsticks
from irisflow.tokenizer.reconstruction import lpips


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch hub without weights and without a network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def put_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a VGG16 of the same form into the hub, and let its digest be the one that is expected."""
    tensors = {f"features.{index}": tensor for index, tensor in enumerate(lpips.shift_tolerant_trunk())}
    torch.save(tensors, folder / lpips.IMAGENET_FILE)
    monkeypatch.setattr(lpips, "IMAGENET_SHA256", sha256(folder / lpips.IMAGENET_FILE)[:8])


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return lpips.file_digest(file, "sha256").hexdigest()


def test_without_the_weights_there_is_none_and_no_download(folder: Path) -> None:
    assert published_lpips(CPU) is None


def test_a_file_with_another_digest_is_not_used_and_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / lpips.IMAGENET_FILE).write_bytes(b"other weights")
    assert published_lpips(CPU) is None
    assert "LPIPS is not measured" in (said := capsys.readouterr().err) and lpips.IMAGENET_FILE in said


@pytest.mark.slow
def test_with_the_weights_worse_pictures_are_farther_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_weights(folder, monkeypatch)
    episodes = recorded(2, seed=0)
    held_to = yardsticks(episodes, device=CPU)
    network = held_to.lpips
    assert network is not None and not network.training
    frames = torch.from_numpy(episodes[0].observations)
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    some, more = ((frames + strength * noise).clamp(0, 255).byte() for strength in (8, 40))
    equal, near, far = (lpips_distances(network, each, frames) for each in (frames, some, more))
    assert equal.abs().max() < 1e-6
    assert (near < far).all() and (near > 0).all()
    tokenizer, world_model = make_tokenizer(), make_world_model()
    examined = examine(
        tokenizer, world_model, episodes, held_to, window=WINDOW, time_limit_is_end=True, device=CPU
    )
    (measured,) = [each for each in tokenizer_quality(examined) if each.metric == "lpips"]
    assert measured.value > 0.1 and measured.n == 18
