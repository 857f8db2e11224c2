"""Every quantizer in a whole tokenizer: it learns, goes on from its state, and rests out of training."""

from copy import deepcopy

import pytest
import torch
from parts import configured
from torch import Tensor

from irisflow import params
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.optim import tokenizer_optimizer

TOKENIZERS = params.names("tokenizer")
QUANTIZERS = [name for name in TOKENIZERS if (params.PARAMS / "quantizer" / f"{name}.yaml").exists()]


def build(name: str) -> Tokenizer:
    torch.manual_seed(0)
    return build_tokenizer(configured(f"tokenizer={name}", "reconstruction=l1").tokenizer)


def frames(seed: int = 0, num_frames: int = 8) -> Tensor:
    """Return pictures of blocks in random colours."""
    blocks = torch.rand(num_frames, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return blocks.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)


def trained(tokenizer: Tokenizer, optimizer: torch.optim.Optimizer, *, num_updates: int) -> list[float]:
    """Return the reconstruction loss of each update on one batch."""
    tokenizer.train()
    losses = []
    for _ in range(num_updates):
        optimizer.zero_grad()
        loss = tokenizer.loss(frames())
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss.terms["l1"].detach()))
    tokenizer.eval()
    return losses


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_tokenizer_learns_to_tell_pictures_apart(name: str) -> None:
    """The same picture for all could come as near as the median; drawn codes take longest to leave that behind."""
    tokenizer = build(name)
    num_updates = 75 if name == "gumbel" else 40
    losses = trained(tokenizer, tokenizer_optimizer(tokenizer, learning_rate=1e-2), num_updates=num_updates)
    same_for_all = 2 * float((frames() - frames().median(dim=0).values).abs().mean())
    assert losses[-1] < 0.95 * same_for_all < losses[0]
    assert len(tokenizer.encode(frames()).unique()) > 2


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_tokenizer_goes_on_from_its_state_as_if_it_had_never_stopped(name: str) -> None:
    whole, resumed = build(name), build(name)
    optimizers = [tokenizer_optimizer(each, learning_rate=1e-3) for each in (whole, resumed)]
    trained(whole, optimizers[0], num_updates=3)
    stream = torch.get_rng_state()
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    expected = trained(whole, optimizers[0], num_updates=3)
    torch.set_rng_state(stream)
    assert trained(resumed, optimizers[1], num_updates=3) == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize("name", QUANTIZERS)
def test_out_of_training_nothing_moves_nothing_is_drawn_and_the_loss_is_measured_all_the_same(
    name: str,
) -> None:
    tokenizer = build(name).eval()
    before = {key: value.clone() for key, value in tokenizer.state_dict().items()}
    stream = torch.get_rng_state()
    with torch.no_grad():
        loss = tokenizer.loss(frames()).terms["commitment"]
        codes = tokenizer.quantizer(tokenizer.latents(frames()))
    assert torch.equal(tokenizer.embed(codes.tokens), codes.codes), "lookup gives exactly the codes"
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[key]) for key, value in tokenizer.state_dict().items())
    assert (loss != 0) == (name != "fsq"), "only FSQ has no loss of its own"


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_tokenizer_trains_under_autocast(name: str) -> None:
    tokenizer = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = tokenizer.loss(frames(num_frames=2))
    loss.total.backward()
    assert loss.terms["commitment"].dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.parameters())
