"""The phases in which networks compute: updates of the three parts, encoding, decoding, imagination."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn

from irisflow.behaviour.agent import Agent
from irisflow.behaviour.imagination import imagine, replayed_loop
from irisflow.behaviour.replayed import Replayed
from irisflow.bench import plain, traffic
from irisflow.bench.phases import Phase
from irisflow.bench.plain_replay import sample
from irisflow.bench.workload import Workload
from irisflow.records import Loss, Rollout
from irisflow.training.optim import optimizers
from irisflow.training.update import Component

NUM_FRAMES = 32  # encoded or decoded at once, as the encoded replay does
FLOAT_BYTES = 4


@contextmanager
def tokenizer_update(workload: Workload) -> Iterator[Phase]:
    """One update of the tokenizer, its batch drawn, its reconstruction losses included."""
    part, settings = workload.trainer.components["tokenizer"], workload.settings
    loss = plain.tokenizer_loss(workload.plain_agent, workload.source, settings)
    slow = _beside(part, loss, workload.plain_agent.tokenizer)
    slow.optimizer = optimizers(workload.plain_agent, settings.training)["tokenizer"]
    batch = settings.training.tokenizer.batch_num_samples
    yield Phase(
        lambda: update(part),
        "frame",
        batch * part.grad_acc_steps,
        plain=lambda: update(slow),
        num_bytes=traffic.update_bytes(part.module) + batch * part.grad_acc_steps * _frame_bytes(workload),
        known=[*part.module.parameters()],
        sizes={"batch": batch},
    )


@contextmanager
def encode(workload: Workload) -> Iterator[Phase]:
    """Frames to tokens."""
    frames = workload.trainer.replay.frames(0, NUM_FRAMES).to(workload.device)
    fast, slow = workload.agent.tokenizer, workload.plain_agent.tokenizer
    weights = sum(traffic.weight_bytes(fast.get_submodule(name)) for name in fast.DECIDE_TOKENS)
    yield Phase(
        lambda: fast.encode(frames),
        "frame",
        len(frames),
        plain=lambda: slow.encode(frames),
        num_bytes=weights + frames.nbytes + 2 * FLOAT_BYTES * len(frames) * fast.tokens_per_frame,
        sizes={"batch": len(frames)},
    )


@contextmanager
def decode(workload: Workload) -> Iterator[Phase]:
    """Tokens to what the policy sees: frames, or the maps of codes."""
    frames = workload.trainer.replay.frames(0, NUM_FRAMES).to(workload.device)
    tokens = workload.agent.tokenizer.encode(frames)
    yield Phase(
        lambda: workload.agent.view(tokens),
        "frame",
        len(frames),
        plain=lambda: workload.plain_agent.view(tokens),
        num_bytes=_decoder_bytes(workload.agent) + tokens.nbytes + frames.nbytes,
        sizes={"batch": len(frames)},
    )


@contextmanager
def world_model_update(workload: Workload) -> Iterator[Phase]:
    """One update of the world model on segments whose frames are encoded already; plainly, they are encoded in it."""
    part, settings = workload.trainer.components["world_model"], workload.settings
    slow = _beside(part, plain.world_model_loss(workload.plain_agent, workload.source, settings))
    batch, length = settings.training.world_model.batch_num_samples, settings.common.sequence_length
    block = workload.agent.tokenizer.tokens_per_frame + 1
    num_tokens = batch * part.grad_acc_steps * length * block
    workload.encode_all()
    yield Phase(
        lambda: update(part),
        "token",
        num_tokens,
        plain=lambda: update(slow),
        num_bytes=traffic.update_bytes(part.module) + 2 * FLOAT_BYTES * num_tokens,
        known=[*part.module.parameters()],
        sizes={"batch": batch, "frames": length, "tokens_per_frame": block - 1},
    )


def imagination(batch: int) -> Callable[[Workload], AbstractContextManager[Phase]]:
    """Return the phase in which so many segments are drawn, burnt in and gone on with, the policy's graph being kept."""

    @contextmanager
    def phase(workload: Workload) -> Iterator[Phase]:
        training = workload.settings.training
        burn_in, horizon = training.actor_critic.burn_in, training.actor_critic.imagine_horizon
        generator, rng = workload.generator("imagine"), workload.rng("imagine")
        replay = workload.trainer.replay
        recorded = replayed_loop(workload.agent, horizon=horizon) if workload.is_replayed else None

        def fast(loop: Replayed | None = None) -> Rollout:
            drawn = workload.batch(batch, burn_in + 1, rng)
            return imagine(workload.agent, drawn, horizon=horizon, generator=generator, loop=loop)

        def slow() -> Rollout:
            drawn = sample(replay, batch, burn_in + 1, anchor="end", rng=rng).to(workload.device)
            return plain.imagine(workload.plain_agent, drawn, horizon=horizon, generator=generator)

        workload.encode_all()
        passes = _pass_bytes(workload, batch)
        yield Phase(
            lambda: fast(recorded),
            "frame",
            batch * horizon,
            plain=slow,
            counted=fast if workload.is_replayed else None,
            num_bytes=_view_and_policy_bytes(workload, batch) + passes,
            pass_bytes=passes,
            known=[*workload.agent.parameters()],
            sizes={"batch": batch, "burn_in": burn_in, "horizon": horizon},
        )

    return phase


@contextmanager
def actor_critic_update(workload: Workload) -> Iterator[Phase]:
    """One update of the actor-critic, its segments drawn, its rollouts imagined in it."""
    part, settings = workload.trainer.components["actor_critic"], workload.settings
    generator, rng = workload.generator("update"), workload.rng("update")
    training = settings.training.actor_critic
    batch, length, horizon = training.batch_num_samples, training.burn_in + 1, training.imagine_horizon

    def played() -> Rollout:
        return imagine(
            workload.agent, workload.batch(batch, length, rng), horizon=horizon, generator=generator
        )

    def plainly_played() -> Rollout:
        drawn = workload.source.batch(batch, length, anchor="end", training=settings.training)
        return plain.imagine(workload.plain_agent, drawn, horizon=horizon, generator=generator)

    slow = _beside(part, plain.policy_loss(plainly_played, training))
    seen = _beside(part, plain.policy_loss(played, training))
    workload.encode_all()
    passes = part.grad_acc_steps * _pass_bytes(workload, batch)
    views = part.grad_acc_steps * _view_and_policy_bytes(workload, batch)
    yield Phase(
        lambda: update(part),
        "frame",
        batch * part.grad_acc_steps * horizon,
        plain=lambda: update(slow),
        counted=(lambda: update(seen)) if workload.is_replayed else None,
        num_bytes=views + passes + traffic.update_bytes(part.module),
        pass_bytes=passes,
        known=[*workload.agent.parameters()],
        sizes={"batch": batch, "burn_in": training.burn_in, "horizon": horizon},
    )


def update(part: Component) -> None:
    """Make one update as training does, in training mode."""
    part.module.train()
    try:
        part.update()
    finally:
        part.module.eval()


def _beside(part: Component, loss: Callable[[], Loss], module: nn.Module | None = None) -> Component:
    """Return a component that updates the same weights with the same optimizer on another loss."""
    return Component(
        part.name,
        part.module if module is None else module,
        part.optimizer,
        loss,
        grad_acc_steps=part.grad_acc_steps,
        max_grad_norm=part.max_grad_norm,
        precision="bfloat16" if part.is_mixed else "float32",
    )


def _frame_bytes(workload: Workload) -> int:
    """Return the bytes of one frame as floats."""
    return FLOAT_BYTES * 3 * workload.settings.env.train.size**2


def _view_bytes(workload: Workload) -> int:
    """Return the bytes of what the policy sees of one frame."""
    if workload.agent.actor_critic.sees == "pictures":
        return _frame_bytes(workload)
    tokenizer = workload.settings.tokenizer
    return FLOAT_BYTES * tokenizer.embed_dim * workload.agent.tokenizer.grid**2


def _decoder_bytes(agent: Agent) -> int:
    """Return the bytes of the weights that make a view of tokens."""
    tokenizer = agent.tokenizer
    parts: list[nn.Module] = [tokenizer.get_submodule("quantizer")]
    if agent.actor_critic.sees == "pictures":
        parts += [tokenizer.post_quant_conv, tokenizer.decoder]
    return sum(traffic.weight_bytes(part) for part in parts)


def _view_and_policy_bytes(workload: Workload, batch: int) -> int:
    """Return what a rollout moves at least for its views, written and read, and for weights of decoder and policy."""
    training = workload.settings.training.actor_critic
    agent, horizon, burn_in = workload.agent, training.imagine_horizon, training.burn_in
    policy = traffic.weight_bytes(agent.get_submodule("actor_critic")) * (horizon + burn_in)
    views = batch * (2 * horizon + burn_in) * _view_bytes(workload)
    return horizon * _decoder_bytes(agent) + policy + views


def _pass_bytes(workload: Workload, batch: int) -> int:
    """Return what a rollout's passes of the world model move at least: its weights and its memory, once a pass."""
    horizon = workload.settings.training.actor_critic.imagine_horizon
    return traffic.token_pass_bytes(workload.agent.world_model, batch=batch, horizon=horizon)
