"""A GPT's passes behind a cache by the kernel give torch's numbers, or are left to torch."""

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from irisflow.kernels.build import library
from irisflow.plainly import as_torch_does
from irisflow.world_model import stepped
from irisflow.world_model.backbones import gpt
from irisflow.world_model.backbones.gpt import GPT, KeysValues
from irisflow.world_model.embedding import Embedding
from irisflow.world_model.prediction.autoregressive import Autoregressive

PER_BLOCK, WINDOW = 5, 60
needs_kernels = pytest.mark.skipif(library() is None, reason="no C++ compiler")


def build(width: int = 32, num_heads: int = 2, *, num_layers: int = 2, attention: str = "causal") -> GPT:
    """Return a GPT whose every weight counts."""
    torch.manual_seed(0)
    model = gpt.build(
        gpt.Config(
            num_layers=num_layers,
            num_heads=num_heads,
            embed_dim=width,
            embed_pdrop=0.1,
            resid_pdrop=0.1,
            attn_pdrop=0.1,
            attention=attention,
            max_tokens=WINDOW,
            tokens_per_block=PER_BLOCK,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def steps(model: GPT, embeddings: Tensor, pieces: list[int]) -> list[Tensor]:
    """Return the outputs of a sequence in pieces, of which the kernel may do all but the first."""
    memory, outputs = None, []
    for piece in embeddings.split(pieces, dim=1):
        output, memory = model(piece, memory)
        outputs.append(output)
    return outputs


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The starts of the passes that the kernel does."""
    starts: list[int] = []

    def noted(*args: Tensor, start: int, epsilon: float) -> Tensor:
        starts.append(start)
        return token_pass(*args, start=start, epsilon=epsilon)

    token_pass = stepped.token_pass
    monkeypatch.setattr(stepped, "token_pass", noted)
    return starts


@pytest.fixture(autouse=True)
def without_gradient() -> Iterator[None]:
    with torch.no_grad():
        yield


@needs_kernels
@pytest.mark.parametrize("attention", gpt.ATTENTION)
@pytest.mark.parametrize("batch", [1, 3, 8, 21])
@pytest.mark.parametrize(("width", "num_heads"), [(16, 1), (32, 2), (48, 1), (64, 4), (160, 2), (256, 4)])
def test_the_kernel_gives_torchs_numbers(
    width: int, num_heads: int, batch: int, attention: str, passes: list[int]
) -> None:
    model = build(width, num_heads, attention=attention)
    pieces = [1, 1, 2, 11, 1, 1, 3, 1, 2, 6, 1, 17, 5, 7, 1]
    embeddings = torch.randn(batch, sum(pieces), width)
    ours = steps(model, embeddings, pieces)
    num_passes = len(passes)
    assert num_passes == sum(batch * piece <= stepped.MOST_ROWS for piece in pieces[1:]), "lost: slower now"
    with as_torch_does():
        torchs = steps(model, embeddings, pieces)
    for own, plain in zip(ours, torchs, strict=True):
        assert_close(own, plain, rtol=0, atol=1e-5)
    assert len(passes) == num_passes


@needs_kernels
def test_torch_goes_on_from_what_the_kernel_wrote(passes: list[int]) -> None:
    model, embeddings = build(), torch.randn(3, 9, 32)
    _, memory = model(embeddings[:, :4])
    _, memory = model(embeddings[:, 4:7], memory)
    assert passes == [4]
    with as_torch_does():
        rest, _ = model(embeddings[:, 7:], memory)
        whole, _ = model(embeddings)
    assert_close(rest, whole[:, 7:], rtol=0, atol=1e-5)


@needs_kernels
def test_the_first_continuation_copies_and_later_ones_fill_in_place() -> None:
    model, embeddings = build(), torch.randn(3, 9, 32)
    _, first = model(embeddings[:, :4])
    before = [layer.clone() for layer in first.layers]
    _, second = model(embeddings[:, 4:6], first)
    _, third = model(embeddings[:, 6:], second)
    assert all(torch.equal(*pair) for pair in zip(first.layers, before, strict=True))
    assert [layer.shape[3] for layer in second.layers] == [WINDOW] * 2
    assert [layer.data_ptr() for layer in second.layers] == [layer.data_ptr() for layer in third.layers]
    assert (first.length, second.length, third.length) == (4, 6, 9)


@needs_kernels
@pytest.mark.parametrize("attention", gpt.ATTENTION)
def test_one_thread_and_two_give_the_same_bits(attention: str) -> None:
    model, before = build(256, 4, num_layers=1, attention=attention), torch.get_num_threads()
    _, memory = model(torch.randn(9, 12, 256))
    continuation, found = torch.randn(9, 3, 256), []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            found.append(model(continuation, memory)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@needs_kernels
@pytest.mark.parametrize("how", ["in place", "loaded", "data", "replaced"])
def test_weights_that_changed_are_seen(how: str, passes: list[int]) -> None:
    model, embeddings = build(), torch.randn(3, 9, 32)
    old = steps(model, embeddings, [4, 5])[1]
    norm, other = model.blocks[1].norm2, build().requires_grad_(False)
    other.blocks[1].norm2.weight.mul_(2)
    if how == "in place":
        norm.weight.mul_(2)
    elif how == "loaded":
        model.load_state_dict(other.state_dict())
    elif how == "data":
        norm.weight.data = 2 * norm.weight
    else:
        norm.weight = other.blocks[1].norm2.weight
    new = steps(model, embeddings, [4, 5])[1]
    assert passes == [4, 4]
    assert (new - old).abs().max() > 0.01
    with as_torch_does():
        assert_close(new, steps(model, embeddings, [4, 5])[1], rtol=0, atol=1e-5)


@needs_kernels
def test_copies_have_weights_of_their_own_and_carry_none_packed() -> None:
    model, embeddings = build(), torch.randn(3, 9, 32)
    small = len(pickle.dumps(model))
    ours = steps(model, embeddings, [4, 5])[1]
    assert len(pickle.dumps(model)) == small
    other = copy.deepcopy(model)
    other.norm.weight.zero_()
    assert_close(steps(other, embeddings, [4, 5])[1], other.norm.bias.expand(3, 5, -1))
    assert torch.equal(steps(model, embeddings, [4, 5])[1], ours)


def left_to_torch(how: str, model: GPT, continuation: Tensor, memory: KeysValues) -> None:
    """Continue in a way that the kernel is not for."""
    if how == "double":
        model.double()
        model(continuation.double(), KeysValues([layer.double() for layer in memory.layers], memory.length))
    elif how == "training":
        model.train()(continuation, memory)
    elif how == "gradient":
        with torch.enable_grad():
            outputs, _ = model(continuation, memory)
        assert outputs.requires_grad
    elif how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            model(continuation, memory)
    else:
        with as_torch_does():
            model(continuation, memory)


@pytest.mark.parametrize("how", ["double", "training", "gradient", "autocast", "plainly"])
def test_what_the_kernel_is_not_for_is_left_to_torch(how: str, passes: list[int]) -> None:
    model, embeddings = build(), torch.randn(3, 6, 32)
    _, memory = model(embeddings[:, :4])
    left_to_torch(how, model, embeddings[:, 4:], memory)
    assert passes == []


@pytest.mark.parametrize(("batch", "width"), [(3, 40), (stepped.MOST_ROWS + 1, 32)])
def test_sizes_that_the_kernel_is_not_for_are_left_to_torch(
    batch: int, width: int, passes: list[int]
) -> None:
    model, embeddings = build(width), torch.randn(batch, 2, width)
    one, other = steps(model, embeddings, [1, 1])
    assert passes == []
    assert one.shape == other.shape == (batch, 1, width)


def test_without_kernels_torch_does_it(monkeypatch: pytest.MonkeyPatch, passes: list[int]) -> None:
    monkeypatch.setattr("irisflow.kernels.use.library", lambda: None)
    model, embeddings = build(), torch.randn(3, 6, 32)
    ours = torch.cat(steps(model, embeddings, [4, 1, 1]), dim=1)
    assert passes == []
    assert_close(ours, model(embeddings)[0], rtol=0, atol=1e-5)


VOCAB, NUM_TOKENS = 16, PER_BLOCK - 1


def frame_of(
    model: GPT, batch: int, *, seed: int = 0, greedy: bool = False
) -> tuple[Tensor, KeysValues, Tensor, Tensor]:
    """Return a drawn frame's tokens, the memory behind it, the generator's state and the outputs of one more pass."""
    torch.manual_seed(1)
    prediction, embedding = (
        Autoregressive(32, VOCAB, NUM_TOKENS).eval(),
        Embedding(VOCAB, 3, 32),
    )
    prediction.head[2].weight.mul_(100)
    outputs, memory = model(torch.randn(batch, 7, 32))
    draws = torch.Generator().manual_seed(seed)
    _, memory = model(torch.randn(batch, 1, 32), memory)
    tokens, behind = prediction.sample(
        outputs[:, -1], memory, backbone=model, embedding=embedding, generator=draws, greedy=greedy
    )
    assert isinstance(behind, KeysValues)
    length = behind.length
    more, _ = model(embedding.frame_tokens(tokens[:, -1:]), behind)
    assert length == 8 + NUM_TOKENS - 1
    return tokens, behind, draws.get_state(), more


@needs_kernels
@pytest.mark.parametrize("batch", [1, 8, 70])
def test_a_frame_in_one_call_is_the_frame_of_token_after_token(batch: int, passes: list[int]) -> None:
    model = build()
    tokens, memory, state, more = frame_of(model, batch)
    assert passes == [7, 8 + NUM_TOKENS - 1], (
        "no pass of a token by itself but that before and the one behind"
    )
    with as_torch_does():
        expected, plain_memory, plain_state, plain_more = frame_of(model, batch)
    assert torch.equal(tokens, expected) and torch.equal(state, plain_state)
    assert len(tokens.unique()) > 2
    assert_close(more, plain_more, rtol=0, atol=1e-5)
    for layer, plain in zip(memory.layers, plain_memory.layers, strict=True):
        assert_close(layer[..., : memory.length, :], plain[..., : memory.length, :], rtol=0, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize(("batch", "greedy"), [(8, True), (stepped.MOST_ROWS + 1, False)])
def test_frames_that_the_call_is_not_for_are_made_token_after_token(
    batch: int, greedy: bool, passes: list[int]
) -> None:
    model = build()
    tokens, *_ = frame_of(model, batch, greedy=greedy)
    assert len(passes) == (NUM_TOKENS + 1 if greedy else 0)
    with as_torch_does():
        assert torch.equal(tokens, frame_of(model, batch, greedy=greedy)[0])
