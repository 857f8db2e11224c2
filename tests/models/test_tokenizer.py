import pytest
import torch
from sizes import FULL_TOKENIZER, tokenizer_settings
from torch import nn

from irisflow import variants
from irisflow.errors import ConfigError, DataError, ResourceError
from irisflow.tokenizer.nets import Downsample
from irisflow.tokenizer.reconstruction import lpips
from irisflow.tokenizer.reconstruction.base import Pictures
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return build_tokenizer(tokenizer_settings())


def test_the_full_tokenizer_has_the_papers_parameters() -> None:
    tokenizer = build_tokenizer(FULL_TOKENIZER)
    assert count(tokenizer.encoder) == 1_418_240
    assert count(tokenizer.decoder) == 1_821_827
    assert count(tokenizer.pre_quant_conv) == count(tokenizer.post_quant_conv) == 262_656
    assert count(tokenizer.quantizer) == 262_144
    assert count(tokenizer) == 4_027_523
    assert tokenizer.tokens_per_frame == 16


def test_widths_may_vary_between_levels() -> None:
    tokenizer = build_tokenizer(tokenizer_settings(ch_mult=[1, 2, 1, 2, 4]))
    images = torch.rand(2, 3, 64, 64)
    assert tokenizer.reconstruct(images).shape == images.shape


def test_downsampling_pads_on_the_right_and_at_the_bottom_only() -> None:
    downsample = Downsample(1)
    nn.init.ones_(downsample.down.weight)
    nn.init.zeros_(downsample.down.bias)
    inputs_seen = downsample(torch.ones(1, 1, 4, 4))[0, 0]
    assert inputs_seen.tolist() == [[9, 6], [6, 4]]


def test_leading_dimensions_are_kept(tokenizer: Tokenizer) -> None:
    observations = torch.rand(2, 3, 3, 64, 64)
    tokens = tokenizer.encode(observations)
    assert tokens.shape == (2, 3, 16)
    assert tokenizer.decode(tokens).shape == observations.shape
    assert torch.equal(tokenizer.encode(observations[1, 2]), tokens[1, 2])


def test_decoded_images_are_clamped(tokenizer: Tokenizer) -> None:
    nn.init.constant_(tokenizer.decoder.conv_out.bias, 5.0)
    assert tokenizer.decode(torch.zeros(1, 16, dtype=torch.long)).max() == 1


def test_the_reconstruction_is_the_training_passes_own(tokenizer: Tokenizer) -> None:
    observations = torch.rand(2, 3, 64, 64)
    _, images = tokenizer(observations)
    expected = ((images + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(tokenizer.reconstruct(observations), expected)


def test_all_parameters_learn_from_the_loss(tokenizer: Tokenizer) -> None:
    loss = tokenizer.loss(torch.rand(2, 2, 3, 64, 64))
    assert set(loss.terms) == {"commitment", "l1"}
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())


def test_a_term_of_weight_zero_is_not_built() -> None:
    terms = {"l1": {"weight": 1.0}, "lpips": {"weight": 0.0, "trunk": "imagenet"}}
    assert list(build_tokenizer(tokenizer_settings(reconstruction=terms)).reconstruction) == ["l1"]


def test_a_quantizer_of_another_size_is_refused() -> None:
    settings = tokenizer_settings()
    settings.vocab_size = 33
    with pytest.raises(ConfigError, match=r"^tokenizer\.vocab_size: 33 was given, but .* has 32 codes"):
        build_tokenizer(settings)


def test_channels_that_do_not_divide_into_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="48 channels do not divide into 32 groups"):
        build_tokenizer(tokenizer_settings(ch=48))


@pytest.fixture(scope="module")
def perceptual() -> Tokenizer:
    """Return a tokenizer with the perceptual term on real, shift-tolerant VGG weights."""
    terms = {"l1": {"weight": 1.0}, "lpips": {"weight": 1.0, "trunk": "shift_tolerant", "dropout": True}}
    return build_tokenizer(tokenizer_settings(reconstruction=terms))


def distance(perceptual: Tokenizer) -> nn.Module:
    return perceptual.reconstruction["lpips"]


def test_building_lpips_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    lpips.build(lpips.Config(trunk="shift_tolerant"))
    assert torch.equal(torch.get_rng_state(), before)


def test_lpips_is_zero_on_equal_images_and_grows_with_noise(perceptual: Tokenizer) -> None:
    term = distance(perceptual).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    noise = torch.randn_like(images)
    assert term(Pictures(images, images)) == 0
    some, more = (term(Pictures(images, images + scale * noise)) for scale in (0.1, 0.5))
    assert 0.001 < some < more


def test_lpips_sends_its_gradient_to_the_prediction_only(perceptual: Tokenizer) -> None:
    target = torch.rand(1, 3, 64, 64)
    prediction = (target + 0.1).requires_grad_()
    distance(perceptual)(Pictures(target, prediction)).backward()
    assert prediction.grad is not None and prediction.grad.abs().sum() > 0
    network = distance(perceptual).load()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_lpips_dropout_is_active_in_training_only_and_can_be_switched_off(perceptual: Tokenizer) -> None:
    images = Pictures(*torch.rand(2, 1, 3, 64, 64))
    term = distance(perceptual)
    assert term.train()(images) != term(images)
    assert term.eval()(images) == term(images)
    term.has_dropout = False
    assert term.train()(images) == term(images)
    term.has_dropout = True


def test_checkpoints_and_optimizers_do_not_see_vgg(perceptual: Tokenizer) -> None:
    plain = build_tokenizer(tokenizer_settings())
    assert perceptual.state_dict().keys() == plain.state_dict().keys()
    assert count(perceptual) == count(plain)


def test_lpips_follows_the_tokenizer_to_another_dtype_and_back(perceptual: Tokenizer) -> None:
    network = distance(perceptual).load()
    perceptual.double()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    perceptual.float()


def test_shift_tolerant_says_that_it_is_not_lpips(capsys: pytest.CaptureFixture[str]) -> None:
    lpips.shift_tolerant_trunk()
    assert "NOT the published LPIPS" in capsys.readouterr().err


def test_a_trunk_that_cannot_be_downloaded_is_one_line_with_the_switch(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ResourceError) as caught:
        lpips.build(lpips.Config(trunk="imagenet")).load()
    message = str(caught.value)
    assert "\n" not in message
    assert "`reconstruction=l1`" in message
    assert "`tokenizer.reconstruction.lpips.trunk=shift_tolerant`" in message
    assert str(tmp_path) in message


def test_a_wrong_trunk_file_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"its sha256 starts with [0-9a-f]{8}, not 397923af"):
        lpips.build(lpips.Config(trunk="imagenet")).load()


def test_an_unknown_trunk_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'alex' does not exist\. Allowed: imagenet, shift_tolerant"):
        lpips.build(lpips.Config(trunk="alex"))


def test_a_level_without_blocks_only_changes_the_resolution() -> None:
    tokenizer = build_tokenizer(tokenizer_settings(ch=8, width=16, vocab_size=32, num_res_blocks=0))
    images = torch.rand(2, 3, 64, 64)
    assert tokenizer.reconstruct(images).shape == images.shape
    assert not any(len(level.blocks) for level in tokenizer.encoder.levels)


def quantizer(*, revive_after: int) -> nn.Module:
    torch.manual_seed(0)
    settings = {"name": "vq", "vocab_size": 32, "embed_dim": 4, "beta": 1.0, "revive_after": revive_after}
    return variants.build("quantizer", settings)


def test_unused_codes_move_onto_latents_only_where_that_is_asked_for_and_only_in_training() -> None:
    latents = 5 + torch.randn(8, 4, 4, 4)
    for revive_after, training, moves in ((0, True, False), (3, True, True), (3, False, False)):
        vq = quantizer(revive_after=revive_after).train(training)
        before = vq.codebook.weight.clone()
        used = [len(vq(latents).tokens.unique()) for _ in range(6)]
        assert torch.equal(vq.codebook.weight, before) != moves
        assert (used[-1] > 4 * used[0]) == moves


def test_a_revived_codebook_is_the_same_each_time_and_goes_on_from_its_state() -> None:
    latents = torch.randn(8, 4, 4, 4)
    whole, first, rest = (quantizer(revive_after=3).train() for _ in range(3))
    for _ in range(8):
        whole(latents)
    for _ in range(5):
        first(latents)
    rest.load_state_dict(first.state_dict())
    for _ in range(3):
        rest(latents)
    assert torch.equal(rest.codebook.weight, whole.codebook.weight)
