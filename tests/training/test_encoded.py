"""Tokens that are kept are those that the tokenizer would make now, whatever was drawn before."""

import numpy as np
import pytest
import torch
from torch import Tensor
from warm import settings_for

from irisflow.data.replay import ReplayBuffer
from irisflow.records import Batch, Episode
from irisflow.tokenizer.tokenizer import Tokenizer, build_tokenizer
from irisflow.training.encoded import FRAMES_AT_ONCE, EncodedReplay
from irisflow.training.optim import tokenizer_optimizer

SIZE, LENGTH = 16, 5
CAPACITY = 3 * FRAMES_AT_ONCE + 7  # the last group of slots is smaller


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(settings_for("Catch").tokenizer).eval()
    torch.nn.init.normal_(tokenizer.quantizer.codebook.weight, std=0.3)  # fresh codes lie too close to differ
    return tokenizer


def episode(length: int, seed: int = 0) -> Episode:
    """Noise, so that no two frames have the same tokens."""
    rng = np.random.default_rng(seed)
    return Episode(
        rng.integers(0, 256, size=(length, 3, SIZE, SIZE), dtype=np.uint8),
        np.zeros(length, np.int64),
        np.zeros(length, np.float32),
        np.arange(length) == length - 1,
        np.zeros(length, np.bool_),
    )


def filled(*lengths: int) -> ReplayBuffer:
    replay = ReplayBuffer(CAPACITY, (3, SIZE, SIZE))
    for seed, length in enumerate(lengths):
        replay.append(episode(length, seed))
    return replay


def encoding(
    replay: ReplayBuffer, tokenizer: Tokenizer, *, max_kept_pictures: int = CAPACITY
) -> EncodedReplay:
    return EncodedReplay(replay, tokenizer, device=torch.device("cpu"), max_kept_pictures=max_kept_pictures)


def draw(replay: EncodedReplay, seed: int = 0, num: int = 24, *, has_pictures: bool = False) -> Batch:
    rng = np.random.default_rng(seed)
    return replay.sample(num, LENGTH, anchor="start", sample_by="step", rng=rng, has_pictures=has_pictures)


def direct(replay: EncodedReplay, batch: Batch) -> Tensor:
    """Return the tokens of each frame of a batch, encoded by itself; zeros for padding."""
    assert batch.slots is not None
    frames = replay.replay.frames(0, CAPACITY)[batch.slots].flatten(0, 1)
    tokens = torch.cat([replay.tokenizer.encode(frame[None]) for frame in frames])
    return tokens.view(*batch.mask.shape, -1) * batch.mask[..., None]


def tokens_of(batch: Batch) -> Tensor:
    assert batch.tokens is not None
    return batch.tokens


def is_current(replay: EncodedReplay, seed: int = 0) -> bool:
    batch = draw(replay, seed)
    return torch.equal(tokens_of(batch), direct(replay, batch))


def test_tokens_are_those_of_each_frame_by_itself_and_padding_has_none(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40, 11), tokenizer)
    batch = draw(replay)
    assert torch.equal(tokens_of(batch), direct(replay, batch))
    assert len(tokens_of(batch)[batch.mask].unique(dim=0)) > 20, "frames differ, so a mix-up would show"
    assert not batch.mask.all() and not tokens_of(batch)[~batch.mask].any()
    plain = replay.replay.sample(24, LENGTH, anchor="start", sample_by="step", rng=np.random.default_rng(0))
    assert batch.observations is None, "frames are not copied where tokens serve"
    for field in ("actions", "rewards", "ends", "mask", "slots"):
        assert torch.equal(getattr(batch, field), getattr(plain, field))


def test_tokens_follow_an_update_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    replay, optimizer = encoding(filled(40), tokenizer), tokenizer_optimizer(tokenizer, learning_rate=0.01)
    stale = tokens_of(draw(replay))
    tokenizer.train().loss(draw_frames(replay)).total.backward()
    optimizer.step()
    tokenizer.eval()
    assert is_current(replay)
    assert not torch.equal(stale, tokens_of(draw(replay))), "what was kept from before would be wrong"


def draw_frames(replay: EncodedReplay) -> Tensor:
    return replay.replay.frames(0, 8)


def test_tokens_follow_loaded_weights_and_a_moved_code(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40), tokenizer)
    seen = [tokens_of(draw(replay))]
    tokenizer.load_state_dict({name: value * 1.5 for name, value in tokenizer.state_dict().items()})
    assert is_current(replay)
    seen.append(tokens_of(draw(replay)))
    with torch.no_grad():
        tokenizer.quantizer.codebook.weight[int(seen[-1][0, 0, 0])] = 1e3
    assert is_current(replay)
    seen.append(tokens_of(draw(replay)))
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_tokens_follow_steps_that_come_into_a_group_or_overwrite_it(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(20), tokenizer)
    stale = draw(replay, num=200)
    replay.replay.append(episode(8, seed=1))
    assert is_current(replay)
    replay.replay.append(episode(CAPACITY, seed=2))
    fresh = draw(replay, num=200)
    assert torch.equal(tokens_of(fresh), direct(replay, fresh))
    assert by_slot(stale).keys() & by_slot(fresh).keys()
    common = by_slot(stale).keys() & by_slot(fresh).keys()
    assert any(by_slot(stale)[slot] != by_slot(fresh)[slot] for slot in common), "kept ones would be wrong"


def by_slot(batch: Batch) -> dict[int, list[int]]:
    assert batch.slots is not None
    slots, tokens = batch.slots[batch.mask].tolist(), tokens_of(batch)[batch.mask].tolist()
    return dict(zip(slots, tokens, strict=True))


def test_segments_across_the_rings_seam_have_their_tokens(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(CAPACITY - 20, 50), tokenizer)
    batch = draw(replay, num=100)
    assert batch.slots is not None
    assert (batch.slots.diff(dim=1)[batch.mask[:, 1:]] < 0).any(), "a segment crosses the seam"
    assert torch.equal(tokens_of(batch), direct(replay, batch))


def latents_while(replay: EncodedReplay, seeds: list[int]) -> dict[bytes, bytes]:
    """Return the latents that frames had as they were encoded, bit by bit, after some draws."""
    found: dict[bytes, bytes] = {}
    tokenizer, frames = replay.tokenizer, []

    def note(images: Tensor, latents: Tensor) -> None:
        found.update(
            (image.numpy().tobytes(), latent.numpy().tobytes())
            for image, latent in zip(images, latents, strict=True)
        )

    before = tokenizer.encoder.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0]))
    after = tokenizer.pre_quant_conv.register_forward_hook(lambda _m, _i, latents: note(frames[-1], latents))
    for seed in seeds:
        draw(replay, seed, num=2)
    before.remove()
    after.remove()
    return found


def test_what_was_drawn_before_moves_no_bit_of_a_frames_latents(tokenizer: Tokenizer) -> None:
    steps = filled(40, 50)
    one = latents_while(encoding(steps, tokenizer), list(range(12)))
    other = latents_while(encoding(steps, tokenizer), list(range(11, -1, -1)))
    resumed = latents_while(encoding(steps, tokenizer), [11])
    assert one == other and resumed.items() <= one.items() and len(resumed) < len(one)


def test_frames_are_encoded_once_while_nothing_changes(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40), tokenizer)
    draw(replay, num=200)
    assert not latents_while(replay, [1, 2, 3])


def test_new_steps_have_only_their_own_groups_encoded(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(FRAMES_AT_ONCE + 5), tokenizer)
    draw(replay, num=200)
    replay.replay.append(episode(8, seed=1))
    assert len(latents_while(replay, list(range(40)))) == 5 + 8, "the first group is as it was"


def test_a_tokenizer_in_train_mode_is_refused_even_if_its_tokens_are_there(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40), tokenizer)
    draw(replay)
    tokenizer.train()
    with pytest.raises(ValueError, match=r"call \.eval\(\)"):
        draw(replay)


def pictures_of(batch: Batch) -> Tensor:
    assert batch.pictures is not None
    return batch.pictures[batch.mask]


def test_pictures_are_what_the_tokens_decode_to(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40, 50), tokenizer)
    for seed in range(3):
        batch = draw(replay, seed, num=40, has_pictures=True)
        decoded = tokenizer.decode(tokens_of(batch))[batch.mask]
        torch.testing.assert_close(pictures_of(batch), decoded, rtol=0, atol=1e-5)
        assert torch.equal(pictures_of(batch), pictures_of(draw(replay, seed, num=40, has_pictures=True)))


def test_what_was_drawn_before_moves_no_bit_of_a_picture(tokenizer: Tokenizer) -> None:
    steps = filled(40, 50)
    busy = encoding(steps, tokenizer)
    for seed in range(5):
        draw(busy, seed, num=3, has_pictures=True)
    resumed = encoding(steps, tokenizer)
    one, other = (pictures_of(draw(replay, 9, has_pictures=True)) for replay in (busy, resumed))
    assert torch.equal(one, other)


def test_no_pictures_are_kept_where_there_would_be_too_many(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40), tokenizer, max_kept_pictures=50)
    assert replay.keeps_pictures and draw(replay, has_pictures=True).pictures is not None
    replay.replay.append(episode(11, seed=1))
    assert not replay.keeps_pictures and draw(replay, has_pictures=True).pictures is None
    whole = encoding(filled(CAPACITY), tokenizer, max_kept_pictures=CAPACITY)
    whole.replay.append(episode(20, seed=1))
    assert whole.keeps_pictures, "the oldest make room for the newest"


def decodings(replay: EncodedReplay, seeds: list[int]) -> int:
    """Return how many frames are decoded for some draws."""
    counts: list[int] = []
    hook = replay.tokenizer.decoder.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    for seed in seeds:
        draw(replay, seed, num=100, has_pictures=True)
    hook.remove()
    return sum(counts)


def test_pictures_are_decoded_once_while_nothing_changes_and_only_if_wanted(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(2 * FRAMES_AT_ONCE), tokenizer)
    assert [decodings(replay, [0]), decodings(replay, [1, 2])] == [2 * FRAMES_AT_ONCE, 0]
    unwanted = encoding(filled(40), tokenizer, max_kept_pictures=0)
    assert decodings(unwanted, [0]) == 0


def test_pictures_follow_a_decoder_that_learns_though_tokens_stay(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(40), tokenizer)
    before = draw(replay, has_pictures=True)
    with torch.no_grad():
        tokenizer.decoder.conv_out.bias.add_(0.1)
    after = draw(replay, has_pictures=True)
    assert torch.equal(tokens_of(before), tokens_of(after))
    assert not torch.equal(pictures_of(before), pictures_of(after))
    decoded = tokenizer.decode(tokens_of(after))[after.mask]
    torch.testing.assert_close(pictures_of(after), decoded, rtol=0, atol=1e-5)


def test_pictures_follow_steps_that_overwrite_a_group(tokenizer: Tokenizer) -> None:
    replay = encoding(filled(20), tokenizer)
    draw(replay, num=100, has_pictures=True)
    replay.replay.append(episode(CAPACITY, seed=2))
    batch = draw(replay, num=100, has_pictures=True)
    decoded = tokenizer.decode(tokens_of(batch))[batch.mask]
    torch.testing.assert_close(pictures_of(batch), decoded, rtol=0, atol=1e-5)
