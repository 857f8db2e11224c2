"""Each quantizer against its paper's equations, written out slowly."""

import math

import pytest
import torch
import torch.nn.functional as F
from parts import configured
from torch import Tensor
from torch.testing import assert_close
from vector_quantize_pytorch import ResidualVQ

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.tokenizer.quantizers.base import Quantizer
from irisflow.tokenizer.quantizers.fsq import levels_for

EMBED, HEIGHT, WIDTH, VOCAB = 16, 3, 5, 32


def build(name: str, **settings: object) -> Quantizer:
    """Return a quantizer as the tokenizer of its name has it, but for some settings."""
    torch.manual_seed(0)
    whole = configured(f"tokenizer={name}").tokenizer.quantizer
    quantizer: Quantizer = variants.build("quantizer", {**whole, **settings})
    return quantizer


def latents(seed: int = 1, batch: int = 2) -> Tensor:
    return torch.randn(batch, EMBED, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def rows(images: Tensor) -> Tensor:
    """Return the vectors of a map, image by image and row by row."""
    return torch.stack([image[:, y, x] for image in images for y in range(HEIGHT) for x in range(WIDTH)])


def nearest(vectors: Tensor, codes: Tensor) -> list[int]:
    return [int(torch.tensor([float((v - c).pow(2).sum()) for c in codes]).argmin()) for v in vectors]


def averaged(
    codes: Tensor, counts: Tensor, sums: Tensor, vectors: Tensor, *, decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, counts and sums after a batch: VQ-VAE, equations 6 to 8, counts smoothed as Laplace did."""
    chosen = nearest(vectors, codes)
    counts, sums = counts.clone(), sums.clone()
    for index in range(len(codes)):
        own = [vector for vector, choice in zip(vectors, chosen, strict=True) if choice == index]
        counts[index] = decay * counts[index] + (1 - decay) * len(own)
        sums[index] = decay * sums[index] + (1 - decay) * sum(own, torch.zeros(EMBED))
    smoothed = (counts + 1e-5) / (counts.sum() + len(codes) * 1e-5) * counts.sum()
    return sums / smoothed[:, None], counts, sums


def test_codes_of_vq_ema_are_moving_averages_of_the_latents_that_chose_them() -> None:
    quantizer = build("vq_ema", decay=0.7).train()
    codes = quantizer.library.codebook.clone()
    state = (codes, torch.ones(VOCAB), codes.clone())
    for seed in (1, 2, 3):
        found = quantizer(latents(seed))
        assert found.tokens.flatten().tolist() == nearest(rows(latents(seed)), state[0])
        assert_close(rows(found.codes), state[0][found.tokens.flatten()])
        state = averaged(*state, rows(latents(seed)), decay=0.7)
        assert_close(quantizer.library.codebook, state[0], rtol=1e-4, atol=1e-5)


def test_the_loss_of_vq_ema_is_the_commitment_alone_and_its_gradient_passes_straight_through() -> None:
    quantizer, inputs = build("vq_ema", beta=0.25).eval(), latents().requires_grad_()
    found = quantizer(inputs)
    assert_close(found.loss, 0.25 * (inputs - found.codes).pow(2).mean())
    (gradient,) = torch.autograd.grad(found.latents.sum(), inputs)
    assert torch.equal(gradient, torch.ones_like(inputs))
    assert not list(quantizer.parameters())


def test_vq_cosine_takes_the_code_with_the_largest_cosine() -> None:
    quantizer = build("vq_cosine").train()
    quantizer(latents(5))
    quantizer.eval()
    found, codes = quantizer(latents()), quantizer.library.codebook
    for vector, token in zip(rows(latents()), found.tokens.flatten(), strict=True):
        cosines = [float(vector @ code / vector.norm() / code.norm()) for code in codes]
        assert cosines[token] == pytest.approx(max(cosines), abs=1e-6)
    assert_close(codes.norm(dim=1), torch.ones(VOCAB))
    directions = latents() / latents().norm(dim=1, keepdim=True)
    assert_close(found.loss, (directions - found.codes).pow(2).mean())


@pytest.mark.parametrize("is_training", [True, False])
def test_residual_vq_codes_what_the_codebooks_before_left_over(is_training: bool) -> None:
    quantizer = build("residual_vq", num_quantizers=3).train(is_training)
    codebooks = [layer.library.codebook.clone() for layer in quantizer.layers]
    found = quantizer(latents())
    tokens, sums, loss = [], [], 0.0
    for vector in rows(latents()):
        left, total = vector, torch.zeros(EMBED)
        for codes in codebooks:
            (token,) = nearest(left[None], codes)
            tokens.append(token)
            total, left = total + codes[token], left - codes[token]
            loss += float(left.pow(2).mean()) / (2 * HEIGHT * WIDTH)
        sums.append(total)
    assert found.tokens.flatten().tolist() == tokens, "those of one position are neighbours"
    assert_close(rows(found.codes), torch.stack(sums))
    assert found.loss.item() == pytest.approx(loss, rel=1e-4)


def test_residual_vq_learns_as_the_librarys_own() -> None:
    quantizer = build("residual_vq", beta=0.5, decay=0.8, revive_below=0.0).train()
    library = ResidualVQ(
        dim=EMBED,
        num_quantizers=2,
        codebook_size=VOCAB,
        decay=0.8,
        commitment_weight=0.5,
        rotation_trick=False,
    )
    for ours, theirs in zip(quantizer.layers, library.layers, strict=True):
        theirs.load_state_dict(ours.library.state_dict())
    for seed in (1, 2, 3):
        found = quantizer(latents(seed))
        codes, tokens, losses = library(latents(seed).flatten(2).transpose(1, 2))
        assert torch.equal(found.tokens, tokens.flatten(1))
        assert_close(found.codes.flatten(2).transpose(1, 2), codes)
        assert_close(found.loss, losses.sum())
    for ours, theirs in zip(quantizer.layers, library.layers, strict=True):
        assert_close(ours.library.codebook, theirs.codebook)


@pytest.mark.parametrize(
    ("vocab_size", "levels"),
    [(4, [4]), (8, [8]), (16, [4, 4]), (32, [8, 4]), (64, [8, 8]), (128, [8, 4, 4]), (256, [8, 8, 4]), (512, [8, 8, 8])],
)  # fmt: skip
def test_levels_of_fsq_are_eights_and_fours_that_multiply_to_the_vocabulary_size(
    vocab_size: int, levels: list[int]
) -> None:
    assert levels_for(vocab_size) == levels
    assert build("fsq", vocab_size=vocab_size).vocab_size == vocab_size


def rounded(number: float, num_levels: int) -> tuple[int, bool]:
    """Return the level of a number, and whether it is too near a bound between two: FSQ, appendix A.1.

    The paper narrows the range by a thousandth, where the library widens it: hence the second.
    """
    half = (num_levels - 1) * (1 - 1e-3) / 2
    offset = 0.0 if num_levels % 2 else 0.5
    bounded = math.tanh(number + math.tan(offset / half)) * half - offset
    return round(bounded), abs(abs(bounded - math.floor(bounded)) - 0.5) < 0.02


@pytest.mark.parametrize("levels", [[8, 4], [8, 6, 5]])
def test_fsq_bounds_and_rounds_each_number_and_counts_with_levels_as_digits(levels: list[int]) -> None:
    quantizer = build("fsq", vocab_size=math.prod(levels), levels=levels).eval()
    inputs = 3 * latents(batch=8)
    found, projected = quantizer(inputs), quantizer.library.project_in(rows(inputs)).detach()
    num_checked = 0
    for numbers, token, code in zip(projected, found.tokens.flatten(), rows(found.codes), strict=True):
        per_number = [rounded(float(n), size) for n, size in zip(numbers, levels, strict=True)]
        if any(is_near for _, is_near in per_number):
            continue
        index, place, normalised = 0, 1, []
        for (level, _), size in zip(per_number, levels, strict=True):
            index += (level + size // 2) * place
            place *= size
            normalised.append(level / (size // 2))
        assert int(token) == index
        assert_close(code, quantizer.library.project_out(torch.tensor(normalised)))
        num_checked += 1
    assert num_checked > 90
    assert found.loss == 0


def test_the_gradient_of_fsq_is_that_of_the_bound_without_the_rounding() -> None:
    quantizer, inputs = build("fsq").train(), latents().requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(inputs).latents.square().sum(), inputs)
    library, codes = quantizer.library, quantizer(latents()).latents.detach()
    smooth = latents().requires_grad_()
    columns = library.project_in(smooth.movedim(1, -1))
    half = torch.tensor([3.5, 1.5]) * (1 + 1e-3)
    bounded = (torch.tanh(columns + torch.atanh(0.5 / half)) * half - 0.5) / torch.tensor([4, 2])
    through = library.project_out(bounded).movedim(-1, 1)
    (expected,) = torch.autograd.grad((2 * codes * through).sum(), smooth)
    assert_close(gradient, expected)


def test_lfq_takes_signs_as_the_bits_of_the_token() -> None:
    quantizer = build("lfq").eval()
    found, projected = quantizer(latents()), quantizer.library.project_in(rows(latents()))
    for numbers, token, code in zip(projected, found.tokens.flatten(), rows(found.codes), strict=True):
        bits = [int(number > 0) for number in numbers]
        assert int(token) == int("".join(map(str, bits)), base=2)
        signs = torch.tensor([2.0 * bit - 1 for bit in bits])
        assert_close(code, quantizer.library.project_out(signs))


@pytest.mark.parametrize("is_training", [True, False])
def test_the_loss_of_lfq_wants_sure_codes_that_are_all_used(is_training: bool) -> None:
    """MAGVIT-v2, equation 5, with the probability of a code by its squared distance."""
    weights = {"entropy_weight": 0.3, "diversity": 0.7, "beta": 0.25, "inverse_temperature": 0.5}
    quantizer = build("lfq", **weights).train(is_training)
    projected = quantizer.library.project_in(rows(latents())).detach()
    codes = [[1.0 if (code >> bit) & 1 else -1.0 for bit in (4, 3, 2, 1, 0)] for code in range(VOCAB)]
    entropies, mean, commitment = [], [0.0] * VOCAB, 0.0
    for vector in projected.tolist():
        scores = [
            math.exp(-0.5 * sum((v - c) ** 2 for v, c in zip(vector, code, strict=True))) for code in codes
        ]
        shares = [score / sum(scores) for score in scores]
        entropies.append(-sum(share * math.log(share) for share in shares))
        mean = [m + share / len(projected) for m, share in zip(mean, shares, strict=True)]
        commitment += sum((v - math.copysign(1, v)) ** 2 for v in vector) / projected.numel()
    of_mean = -sum(m * math.log(m) for m in mean)
    expected = 0.3 * (sum(entropies) / len(entropies) - 0.7 * of_mean) + 0.25 * commitment
    assert quantizer(latents()).loss.item() == pytest.approx(expected, rel=1e-3)


def test_sim_vq_finds_the_nearest_product_of_a_fixed_codebook_and_a_learned_matrix() -> None:
    quantizer, inputs = build("sim_vq", beta=0.25).train(), latents().requires_grad_()
    products = quantizer.library.frozen_codebook @ quantizer.library.code_transform.weight.T
    found = quantizer(inputs)
    assert found.tokens.flatten().tolist() == nearest(rows(latents()), products.detach())
    assert_close(rows(found.codes), products[found.tokens.flatten()])
    distance = (inputs.detach() - found.codes).pow(2).mean()
    assert_close(found.loss, 1.25 * distance)
    (straight,) = torch.autograd.grad(found.latents.sum(), inputs, retain_graph=True)
    assert torch.equal(straight, torch.ones_like(inputs))
    pulled, moved = torch.autograd.grad(found.loss, (inputs, quantizer.library.code_transform.weight))
    assert_close(pulled, 0.25 * 2 * (inputs - found.codes) / inputs.numel())
    assert moved.any()
    assert [name for name, _ in quantizer.named_parameters()] == ["library.code_transform.weight"]


def test_gumbel_draws_as_torchs_gumbel_softmax_with_its_straight_through_gradient() -> None:
    quantizer, inputs = build("gumbel", temperature=0.8, cooling=0.0).train(), latents().requires_grad_()
    torch.manual_seed(3)
    found = quantizer(inputs)
    torch.manual_seed(3)
    logits = quantizer.logits(inputs.movedim(1, -1).flatten(1, 2))
    drawn = F.gumbel_softmax(logits, tau=0.8, hard=True)
    expected = (drawn @ quantizer.codebook.weight).transpose(1, 2).reshape_as(inputs)
    assert torch.equal(found.tokens, drawn.argmax(-1))
    assert_close(found.latents, expected)
    assert_close(found.latents, found.codes)
    sought = (inputs, quantizer.codebook.weight, quantizer.logits.weight)
    ours = torch.autograd.grad(found.latents.square().sum(), sought)
    theirs = torch.autograd.grad(expected.square().sum(), sought)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)


def test_gumbel_draws_each_code_as_often_as_its_probability_and_takes_the_likeliest_out_of_training() -> None:
    quantizer = build("gumbel").train()
    inputs = latents()[:1, :, :1, :1]
    probabilities = quantizer.logits(inputs.flatten()).softmax(-1)
    drawn = quantizer(inputs.expand(4000, -1, 5, 5)).tokens.flatten()
    shares = torch.bincount(drawn, minlength=VOCAB) / len(drawn)
    assert_close(shares, probabilities.detach(), rtol=0, atol=0.004)
    assert quantizer.eval()(inputs).tokens.item() == int(probabilities.argmax())


def test_the_loss_of_gumbel_is_the_divergence_from_uniform_codes() -> None:
    quantizer = build("gumbel", kl_weight=0.1).eval()
    logits = quantizer.logits(rows(latents()))
    uniform = torch.distributions.Categorical(logits=torch.zeros(VOCAB))
    divergence = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=logits), uniform)
    assert_close(quantizer(latents()).loss, 0.1 * divergence.mean())


def test_the_temperature_of_gumbel_cools_by_batches_of_training_down_to_its_least() -> None:
    quantizer = build("gumbel", temperature=2.0, least_temperature=0.5, cooling=0.3)
    found = []
    for _ in range(8):
        found.append(float(quantizer.temperature()))
        quantizer.eval()(latents())
        quantizer.train()(latents())
    assert found == pytest.approx([max(0.5, 2 * math.exp(-0.3 * batch)) for batch in range(8)])
    assert found[-1] == 0.5


@pytest.mark.parametrize("name", ["vq_ema", "vq_cosine", "residual_vq"])
def test_codes_that_nothing_chooses_move_onto_latents_only_where_that_is_asked_for(name: str) -> None:
    far = latents(batch=1) + 5
    for revive_below, moves in ((0.0, False), (0.9, True)):
        quantizer = build(name, decay=0.8, revive_below=revive_below).train()
        library = (quantizer.layers[0] if name == "residual_vq" else quantizer).library
        num_unused = VOCAB - len(quantizer(far).tokens.reshape(HEIGHT * WIDTH, -1)[:, 0].unique())
        seen = rows(F.normalize(far, dim=1) if name == "vq_cosine" else far)
        differences = (library.codebook[:, None] - seen).abs().amax(dim=-1)
        num_moved = int((differences.amin(dim=1) < 1e-6).sum())
        assert num_moved == (min(len(seen), num_unused) if moves else 0)


@pytest.mark.parametrize("name", ["fsq", "lfq", "sim_vq", "vq_ema", "residual_vq"])
def test_codes_stay_float32_under_autocast(name: str) -> None:
    quantizer = build(name).eval()
    tokens = quantizer(latents()).tokens
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer.lookup(tokens, height=HEIGHT)
    assert torch.equal(found, quantizer.lookup(tokens, height=HEIGHT))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fsq", {"levels": [8, 6]}, r"^tokenizer\.quantizer\.levels: \[8, 6\] make 48 codes, .*vocab_size is 32"),
        ("fsq", {"vocab_size": 240}, r"levels is empty, and tokenizer\.vocab_size is 240\. Allowed .* power of two"),
        ("lfq", {"vocab_size": 240}, r"^tokenizer\.quantizer\.vocab_size is 240; allowed with lfq: a power of two"),
        ("vq_ema", {"decay": 1.0}, r"^tokenizer\.quantizer\.decay is 1\.0; allowed: 0 or more and less than 1"),
        ("gumbel", {"temperature": 0.1}, r"least_temperature is 0\.5; allowed: more than 0, up to .* \(0\.1\)"),
    ],
)  # fmt: skip
def test_settings_that_make_no_quantizer_are_refused(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **settings)
