"""The fast ways give the numbers of the plain ones."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from settings import workload
from torch.testing import assert_close

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine
from irisflow.behaviour.losses import actor_critic_loss
from irisflow.bench import plain, plain_replay
from irisflow.bench.plain_environment import wrapped
from irisflow.bench.workload import GAME
from irisflow.envs.make import make_environment
from irisflow.records import Batch, Rollout

LOSS = {"gamma": 0.995, "lambda_": 0.95, "entropy_weight": 0.001}
HORIZON = 4
VIEWS = (
    3e-5  # plain pictures are up to 1.5e-5 from those in double precision: tests/kernels holds both to these
)


@pytest.fixture(scope="module")
def agent() -> Agent:
    """An agent that prefers some tokens and actions clearly, unlike an untrained one."""
    decided = copy.deepcopy(workload().agent).eval()
    with torch.no_grad():
        for head in (decided.world_model.prediction.head, decided.world_model.end_head):
            head[-1].weight.mul_(30)
        decided.world_model.embedding.frame_tokens.weight.mul_(20)
        decided.world_model.embedding.actions.weight.mul_(20)
        decided.actor_critic.actor.weight.mul_(10)
    return decided


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Segments of frames, some of them padded."""
    replay = workload().trainer.replay
    drawn = replay.sample(6, 5, anchor="end", rng=np.random.default_rng(3))
    assert not drawn.mask.all() and drawn.mask[:, -1].all()
    return drawn


def both(agent: Agent, batch: Batch) -> tuple[Rollout, Rollout]:
    fast = imagine(agent, batch, horizon=HORIZON, generator=torch.Generator().manual_seed(1))
    slow = plain.imagine(
        plain.plain_agent(agent), batch, horizon=HORIZON, generator=torch.Generator().manual_seed(1)
    )
    return fast, slow


def test_imagination_equals_the_plain_one_for_the_same_noise(agent: Agent, batch: Batch) -> None:
    fast, slow = both(agent, batch)
    for name in ("actions", "rewards", "ends"):
        assert torch.equal(getattr(fast, name), getattr(slow, name)), name
    for name, atol in (("views", VIEWS), ("logits", 1e-5), ("values", 1e-5)):
        assert_close(getattr(fast, name), getattr(slow, name), rtol=0, atol=atol, msg=name)
    assert fast.ends.any() and not fast.ends.all()
    assert len(fast.actions.unique()) > 1


def test_imagination_in_a_full_window_forgets_as_the_plain_one_does(agent: Agent, batch: Batch) -> None:
    horizon = 2 * HORIZON  # the window of scale smoke holds 4 blocks
    fast = imagine(agent, batch, horizon=horizon, generator=torch.Generator().manual_seed(1))
    slow = plain.imagine(agent, batch, horizon=horizon, generator=torch.Generator().manual_seed(1))
    assert torch.equal(fast.rewards, slow.rewards)
    assert_close(fast.views, slow.views, rtol=0, atol=VIEWS)


def test_gradients_of_the_policy_equal_the_plain_ones(agent: Agent, batch: Batch) -> None:
    """Of the same pictures: where two neighbours are nearly equal, pooling may send a gradient to either of them."""
    gradients = []
    for rollout in both(plain.plain_agent(agent), batch):
        agent.zero_grad(set_to_none=True)
        actor_critic_loss(rollout, **LOSS).total.backward()
        gradients.append([parameter.grad.clone() for parameter in agent.actor_critic.parameters()])
    for fast, slow in zip(*gradients, strict=True):
        assert_close(fast, slow, rtol=0, atol=1e-4 * slow.abs().max().item())
        assert fast.abs().max() > 0


def test_samples_have_the_distribution_of_the_plain_ones(agent: Agent, batch: Batch) -> None:
    fields = {name: value for name, value in vars(batch).items() if value is not None}
    one = Batch(**{name: value[:1, -2:].repeat_interleave(375, 0) for name, value in fields.items()})
    drawn = []
    for way, seeds in ((imagine, range(4)), (plain.imagine, range(4, 8))):
        rollouts = [
            way(agent, one, horizon=2, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        drawn.append(
            {
                "actions": torch.cat([rollout.actions[:, 1] for rollout in rollouts]),
                "rewards": torch.cat([rollout.rewards[:, 1].long() + 1 for rollout in rollouts]),
                "ends": torch.cat([rollout.ends[:, 1].long() for rollout in rollouts]),
            }
        )
    for name in drawn[0]:
        counts = np.stack([torch.bincount(each[name], minlength=4).numpy() for each in drawn])
        counts = counts[:, counts.sum(axis=0) > 10]
        assert counts.shape[1] > 1
        assert chi2_contingency(counts).pvalue > 0.001, name


@pytest.mark.parametrize("anchor", ["start", "end"])
@pytest.mark.parametrize("sample_by", ["episode", "step"])
def test_segments_equal_the_plain_ones(anchor: str, sample_by: str) -> None:
    replay = workload().trainer.replay
    ways = (replay.sample, lambda *args, **options: plain_replay.sample(replay, *args, **options))
    fast, slow = (
        way(16, 20, anchor=anchor, sample_by=sample_by, rng=np.random.default_rng(0)) for way in ways
    )
    assert not fast.mask.all()
    for name in ("observations", "actions", "rewards", "ends", "mask"):
        assert_close(getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-6, msg=name)


def test_tokens_drawn_for_training_are_those_of_the_plainly_encoded_frames() -> None:
    work = workload()
    drawn = work.batch(8, 5, np.random.default_rng(0), anchor="start")
    frames = plain_replay.sample(work.trainer.replay, 8, 5, anchor="start", rng=np.random.default_rng(0))
    tokens = work.plain_agent.tokenizer.encode(frames.observations)
    assert torch.equal(drawn.tokens, tokens * frames.mask[..., None])


def test_the_environment_shows_what_the_stack_of_wrappers_shows() -> None:
    settings = workload().settings.env.train
    fast, slow = make_environment(settings), wrapped(GAME, settings)
    rng, num_ends = np.random.default_rng(0), 0
    seen = [env.reset(seed=5)[0] for env in (fast, slow)]
    assert seen[0].shape == seen[1].shape
    for _ in range(600):
        action = int(rng.integers(fast.num_actions))
        steps = [env.step(action) for env in (fast, slow)]
        for field in range(1, 4):
            assert steps[0][field] == steps[1][field]
        if steps[0][2] or steps[0][3]:
            num_ends += 1
            if steps[0][4]["is_game_over"]:
                break
            steps = [env.reset() for env in (fast, slow)]
        assert np.array_equal(steps[0][0], steps[1][0])
    assert num_ends > 1
