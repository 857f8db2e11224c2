"""The adversarial term: VQGAN's formulas, who learns from what, and when."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from sizes import tokenizer_settings
from torch import Tensor, nn
from torch.testing import assert_close

from irisflow import variants
from irisflow.errors import ConfigError
from irisflow.initialization.weights import check_fit
from irisflow.tokenizer.reconstruction.base import AdversarialTerm
from irisflow.tokenizer.reconstruction.gan import Adversary, patch_discriminator
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.update import Component


def build(*, start: int = 0, weight: float = 0.8, seed: int = 0, num_res_blocks: int = 1) -> Tokenizer:
    torch.manual_seed(seed)
    gan = {"weight": weight, "start_after_updates": start, "channels": 8, "num_layers": 2}
    terms = {"gan": gan, "l1": {"weight": 1.0}, "l2": {"weight": 0.5}}
    return build_tokenizer(tokenizer_settings(reconstruction=terms, num_res_blocks=num_res_blocks))


def term(tokenizer: Tokenizer) -> Adversary:
    found = tokenizer.reconstruction["gan"]
    assert isinstance(found, Adversary)
    return found


def frames(num: int = 3) -> Tensor:
    return torch.rand(num, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def split(tokenizer: Tokenizer) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of the tokenizer itself and of the discriminator."""
    theirs = list(term(tokenizer).discriminator.parameters())
    ids = {id(parameter) for parameter in theirs}
    return [parameter for parameter in tokenizer.parameters() if id(parameter) not in ids], theirs


def gradient_at_last_layer(tokenizer: Tokenizer, loss: Tensor) -> Tensor:
    tokenizer.zero_grad()
    loss.backward(retain_graph=True)
    gradient = tokenizer.decoder.conv_out.weight.grad
    assert gradient is not None
    return gradient.clone()


def train(
    tokenizer: Tokenizer, optimizer: torch.optim.Optimizer, num_updates: int, pictures: Tensor
) -> list[dict[str, float]]:
    """Return the terms and metrics of each update."""
    history = []
    for _ in range(num_updates):
        loss = tokenizer.loss(pictures)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        history.append({name: value.item() for name, value in {**loss.terms, **loss.metrics}.items()})
    return history


def test_the_term_keeps_the_contract() -> None:
    built = variants.build("reconstruction", {"name": "gan"})
    assert isinstance(built, AdversarialTerm) and built.is_adversarial


def test_the_tokenizers_term_is_vqgans_with_the_adaptive_weight_of_equation_7() -> None:
    tokenizer = build().train()
    loss = tokenizer.loss(frames())
    _, drawn = tokenizer(frames())
    realism = term(tokenizer).discriminator(drawn).mean()
    seen = 2 * frames() - 1
    others = (drawn - seen).abs().mean() + 0.5 * (drawn - seen).square().mean()
    pulls = [gradient_at_last_layer(tokenizer, part).square().sum().sqrt() for part in (others, -realism)]
    weight = pulls[0] / (pulls[1] + 1e-4)
    assert_close(loss.metrics["adaptive_weight"], weight, rtol=1e-4, atol=0)
    assert_close(loss.terms["gan"], -0.8 * weight * realism, rtol=1e-4, atol=1e-7)


def test_the_adaptive_weight_makes_both_pull_alike_and_stops_at_ten_thousand() -> None:
    tokenizer = build(weight=1.0).train()
    loss = tokenizer.loss(frames())
    parts = [loss.terms["gan"], loss.terms["l1"] + loss.terms["l2"]]
    adversarial, others = (gradient_at_last_layer(tokenizer, part).norm() for part in parts)
    stabilised = 1 - 1e-4 * loss.metrics["adaptive_weight"] / others
    assert_close(adversarial / others, stabilised, rtol=1e-3, atol=1e-4)
    nn.init.zeros_(term(tokenizer).discriminator[-1].weight)  # type: ignore[arg-type]
    for parameter in (tokenizer.decoder.conv_out.weight, tokenizer.decoder.conv_out.bias):
        nn.init.constant_(parameter, 10.0)
    assert tokenizer.loss(frames()).metrics["adaptive_weight"] == 1e4


def test_the_discriminators_term_is_the_hinge_loss() -> None:
    tokenizer = build().train()
    discriminator = term(tokenizer).discriminator
    with torch.no_grad():
        discriminator[-1].weight.mul_(30)  # type: ignore[operator]
    loss = tokenizer.loss(frames())
    real, drawn = (discriminator(i).flatten().tolist() for i in (2 * frames() - 1, tokenizer(frames())[1]))
    expected = sum(max(0, 1 - x) for x in real) / len(real) + sum(max(0, 1 + x) for x in drawn) / len(drawn)
    assert loss.terms["discriminator"].item() == pytest.approx(expected / 2, rel=1e-5)
    assert loss.metrics["logits_real"].item() == pytest.approx(sum(real) / len(real), rel=1e-4)
    assert loss.metrics["logits_drawn"].item() == pytest.approx(sum(drawn) / len(drawn), rel=1e-4)


def test_each_side_learns_from_its_own_term_only() -> None:
    tokenizer = build().train()
    own, discriminators = split(tokenizer)
    for name, learning, untouched in (("gan", own, discriminators), ("discriminator", discriminators, own)):
        tokenizer.zero_grad(set_to_none=True)
        tokenizer.loss(frames()).terms[name].backward()
        assert all(parameter.grad is None for parameter in untouched)
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in learning)


def test_all_parameters_learn_from_the_whole_loss() -> None:
    tokenizer = build().train()
    tokenizer.loss(frames()).total.backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    *weights, last_bias = split(tokenizer)[1]
    assert all(parameter.grad.any() for parameter in weights if parameter.grad is not None)
    assert last_bias.grad == 0  # both hinges are open at first: one pulls it up as the other down


def test_it_starts_after_its_number_of_calls_in_training_and_no_others_count() -> None:
    tokenizer = build(start=2).train()
    seen = []
    for training in (True, False, True, False, True):
        loss = tokenizer.train(training).loss(frames())
        seen.append((bool(loss.terms["gan"]), bool(loss.terms["discriminator"])))
    assert seen == [(False, False)] * 3 + [(True, True)] * 2
    assert tokenizer.state_dict()["reconstruction.gan.num_calls"] == 3


def test_before_its_start_the_tokenizer_learns_as_without_it_and_the_discriminator_nothing() -> None:
    tokenizer = build(start=1).train()
    loss = tokenizer.loss(frames())
    own, discriminators = split(tokenizer)
    expected = torch.autograd.grad(
        loss.terms["commitment"] + loss.terms["l1"] + loss.terms["l2"], own, retain_graph=True
    )
    loss.total.backward()
    assert all(torch.equal(parameter.grad, e) for parameter, e in zip(own, expected, strict=True))  # type: ignore[arg-type]
    assert all(parameter.grad is None for parameter in discriminators)


def test_a_measurement_without_gradient_reports_the_hinge_loss_and_no_term_for_the_tokenizer() -> None:
    tokenizer = build()
    trained = tokenizer.train().loss(frames())
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    with torch.no_grad():
        measured = tokenizer.eval().loss(frames())
    assert measured.terms.keys() == trained.terms.keys() and measured.metrics.keys() == trained.metrics.keys()
    assert measured.terms["gan"] == 0 == measured.metrics["adaptive_weight"]
    assert_close(measured.terms["discriminator"], trained.terms["discriminator"])
    assert all(torch.equal(before[name], value) for name, value in tokenizer.state_dict().items())


def test_accumulated_batches_give_the_gradient_of_one_and_count_each() -> None:
    gradients, calls = [], []
    for grad_acc_steps in (1, 2):
        tokenizer = build(start=0)
        optimizer = torch.optim.SGD(tokenizer.parameters(), lr=0.0)
        component = Component(
            "tokenizer",
            tokenizer.train(),
            optimizer,
            lambda tokenizer=tokenizer: tokenizer.loss(frames()),
            grad_acc_steps=grad_acc_steps,
            max_grad_norm=None,
        )
        terms = component.update()
        assert {"gan", "discriminator", "adaptive_weight", "logits_real", "logits_drawn"} <= terms.keys()
        gradients.append([parameter.grad for parameter in tokenizer.parameters()])
        calls.append(int(term(tokenizer).num_calls))
    for once, accumulated in zip(*gradients, strict=True):
        assert_close(accumulated, once, rtol=1e-4, atol=1e-7)
    assert calls == [1, 2]


def test_it_trains_under_autocast_too() -> None:
    tokenizer = build()
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=1e-3)
    component = Component(
        "tokenizer",
        tokenizer,
        optimizer,
        lambda: tokenizer.loss(frames()),
        grad_acc_steps=1,
        max_grad_norm=10.0,
        precision="bfloat16",
    )
    means = component.train(3, what="training")
    assert means["adaptive_weight"] > 0 and means["discriminator"] > 0


def test_the_tokenizer_learns_to_draw_while_the_discriminator_learns_to_tell() -> None:
    tokenizer = build(start=20, weight=0.1, num_res_blocks=0).train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=5e-3)
    pictures = torch.zeros(2, 3, 64, 64)
    pictures[0, :, 8:24, 8:40] = 0.4
    pictures[1, :, 32:48, 8:40] = 0.8
    history = train(tokenizer, optimizer, 60, pictures)
    assert history[-1]["l1"] < 0.4 * history[0]["l1"]
    gaps = [update["logits_real"] - update["logits_drawn"] for update in history]
    assert max(gaps[:20]) == 0 and abs(gaps[20]) < 0.1 < max(gaps[21:])
    assert min(update["discriminator"] for update in history[21:]) < 0.95 * history[20]["discriminator"]


def test_training_goes_on_from_saved_weights_and_moments_as_if_never_stopped() -> None:
    whole, first = build(start=2).train(), build(start=2).train()
    optimizers = [torch.optim.Adam(tokenizer.parameters(), lr=1e-3) for tokenizer in (whole, first)]
    train(whole, optimizers[0], 4, frames())
    train(first, optimizers[1], 1, frames())
    rest = build(start=2, seed=7).train()
    rest.load_state_dict(load(save(first.state_dict())))
    resumed = torch.optim.Adam(rest.parameters(), lr=1e-3)
    resumed.load_state_dict(optimizers[1].state_dict())
    train(rest, resumed, 3, frames())
    assert all(torch.equal(value, rest.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_pretrained_tokenizer_with_the_same_terms_fits_and_keeps_its_discriminator() -> None:
    pretrained, fresh = build(), build(seed=1)
    stored = load(save(pretrained.state_dict()))
    assert any(name.startswith("reconstruction.gan.discriminator.") for name in stored)
    check_fit(fresh.state_dict(), stored, Path("tokenizer.safetensors"))
    fresh.load_state_dict(stored)
    assert all(torch.equal(a, b) for a, b in zip(pretrained.parameters(), fresh.parameters(), strict=True))


def test_the_tokenizer_itself_starts_from_the_same_weights_with_the_term_and_without() -> None:
    torch.manual_seed(0)
    plain = build_tokenizer(tokenizer_settings()).state_dict()
    adversarial = build().state_dict()
    assert all(torch.equal(value, adversarial[name]) for name, value in plain.items())


def test_alone_it_has_nothing_to_weigh_itself_by() -> None:
    tokenizer = build_tokenizer(tokenizer_settings(reconstruction={"gan": {"channels": 8}})).train()
    with pytest.raises(ConfigError, match=r"^tokenizer\.reconstruction\.gan needs another term beside it"):
        tokenizer.loss(frames())


@pytest.mark.parametrize(("num_layers", "patches", "reach"), [(1, 30, 16), (2, 14, 34)])
def test_a_logit_sees_a_patch(num_layers: int, patches: int, reach: int) -> None:
    discriminator = patch_discriminator(8, num_layers=num_layers)
    without_norms = nn.Sequential(
        *(layer for layer in discriminator if not isinstance(layer, nn.GroupNorm))
    ).double()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    logits = without_norms(image)
    assert logits.shape == (1, 1, patches, patches)
    logits[0, 0, patches // 2, patches // 2].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(dim=0)
    assert (seen.any(dim=0).sum(), seen.any(dim=1).sum()) == (reach, reach)


def test_the_discriminator_judges_each_picture_for_itself_in_training_and_in_measuring() -> None:
    discriminator = patch_discriminator(16, num_layers=2).train()
    together = discriminator(frames())
    assert_close(together[:1], discriminator(frames()[:1]))
    assert_close(together, discriminator.eval()(frames()))
