"""A process that has done all slow imports, and forks for each trial: a run of seconds then costs tenths.

Reads one trial a line as JSON on stdin and answers with one line: how the child ended and what it computed.
"""

import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from irisflow import cli, faults, params
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.toy import Catch
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.randomness import seed_everything
from irisflow.stages.session import Session, prepare
from irisflow.storage import MANIFEST, publish, write_through
from irisflow.tokenizer.tokenizer import build_tokenizer
from irisflow.training import loop
from irisflow.training.checkpoint import Checkpoints, pack
from irisflow.training.encoded import EncodedReplay
from irisflow.training.losses import world_model_loss
from irisflow.training.metrics import json_lines
from irisflow.training.optim import world_model_optimizer
from irisflow.training.pretrain import as_replay, pretrain
from irisflow.training.run import train
from irisflow.world_model.world_model import build_world_model

SECONDS = 120
NUM_UPDATES = 25
GAMES = ("Catch", "Pong")
TINY = (
    "common.epochs=3",
    "common.sequence_length=3",
    "collection.train.stop_after_epochs=3",
    "collection.train.config.num_steps=6",
    "collection.test.config.num_episodes=1",
    "collection.test.num_envs=1",
    "datasets.train.max_ram_usage=8K",  # 10 steps: the oldest go
    "env.train.size=16",
    "env.test.max_episode_steps=30",
    "evaluation.every=2",
    "tokenizer.vocab_size=8",
    "tokenizer.encoder.config.ch=4",
    "tokenizer.encoder.config.ch_mult=[1,1,1]",
    "tokenizer.encoder.config.attn_resolutions=[8]",
    "tokenizer.quantizer.embed_dim=8",
    "tokenizer.quantizer.revive_after=2",
    "tokenizer.embed_dim=8",
    "world_model.embed_dim=8",
    "world_model.num_layers=1",
    "actor_critic.hidden_dim=8",
    "actor_critic.channels=[4,4]",
    *(f"training.{part}.batch_num_samples=2" for part in loop.COMPONENTS),
    "training.actor_critic.burn_in=2",
)


@cache
def settings_for(game: str) -> Any:
    choice = Choice("smoke", variant="iris", overrides=(f"env.train.id={game}", *TINY))
    return params.stage_settings("train_agent", params.compose(choice))


def session_for(game: str) -> Session:
    return prepare(settings_for(game), scale="smoke", game=game)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def outcome(session: Session, history: Any) -> dict[str, str]:
    """Return the digests of all that a run leads to; wall-clock seconds are in none."""
    trainer = session.trainer
    steps = trainer.replay.steps(trainer.replay.first_step, trainer.replay.end_step)
    state = {**trainer.get_state(), "steps": steps}
    return {
        **{name: digest_of(part) for name, part in state.items()},
        "metrics": sha256(json_lines(history.metrics)),
        "curve": sha256(json_lines(history.curve)),
    }


def digest_of(state: Any) -> str:
    tensors: dict[str, torch.Tensor] = {}
    rest = json.dumps(pack(state, tensors))
    return sha256(save(tensors) + rest.encode())


class Training:
    """A whole training on a game, built and seeded as in a fresh process."""

    def __init__(self, game: str) -> None:
        self.session, self.settings = session_for(game), settings_for(game)
        self.stream = torch.get_rng_state()

    def run(self, folder: Path) -> dict[str, str]:
        """Return the digests of what the training comes to."""
        torch.set_rng_state(self.stream)
        history = train(
            self.session.trainer, self.settings, Cost("test"), checkpoint=folder, digest="d", what="test"
        )
        return outcome(self.session, history)


class Pretraining:
    """A pretraining of a world model on recorded Catch, and the publication of its weights."""

    def __init__(self) -> None:
        self.settings = settings_for("Catch")
        seed_everything(0, "test")
        episodes = record_episodes(Catch(size=16), RandomPolicy(3, np.random.default_rng(0)), 40, seed=0)
        replay = EncodedReplay(
            as_replay(episodes, time_limit_is_end=True),
            build_tokenizer(self.settings.tokenizer).eval(),
            device=torch.device("cpu"),
        )
        tokenizer = replay.tokenizer
        self.world_model = build_world_model(
            self.settings.world_model,
            vocab_size=tokenizer.vocab_size,
            num_actions=3,
            tokens_per_frame=tokenizer.tokens_per_frame,
        )
        self.optimizer = world_model_optimizer(self.world_model, learning_rate=1e-3, weight_decay=0.01)
        self.rng = np.random.default_rng(1)
        self.loss = world_model_loss(
            self.world_model, replay, self.rng, batch_size=2, length=3, sample_by="episode"
        )
        self.stream = torch.get_rng_state()

    def run(self, folder: Path) -> dict[str, str]:
        """Return the digests of the weights, the losses and the stream that remains."""
        torch.set_rng_state(self.stream)
        result = pretrain(
            "world model",
            self.world_model,
            self.optimizer,
            self.loss,
            num_updates=NUM_UPDATES,
            training=self.settings.training.world_model,
            precision="float32",
            rng=self.rng,
            checkpoints=Checkpoints(folder, digest="d", context={"torch": torch.__version__}),
            cost=Cost("test"),
        )
        weights = save(dict(self.world_model.state_dict()))
        publish(folder / ".." / f"{folder.name}-published", {"w": weights}, kind="w", digest="d", about={})
        return {
            "weights": sha256(weights),
            "optimizer": digest_of(self.optimizer.state_dict()["state"]),
            "metrics": sha256(json_lines(result.metrics)),
            "stream": digest_of(torch.get_rng_state()),
            "draws": digest_of(self.rng.bit_generator.state),
        }


def run_trial(work: Training | Pretraining, trial: dict[str, Any]) -> dict[str, Any]:
    """Do the work to its end, unless the fault comes before; return what it came to."""
    plan = faults.plan(trial["fault"])
    SABOTAGE[trial["sabotage"]]()
    answer: dict[str, Any] = {}

    def run() -> None:
        answer["outcome"] = work.run(Path(trial["folder"]))

    answer["code"] = cli.guarded(run)
    return answer | {"reached": dict(plan.reached)}


def in_child(work: Callable[[], dict[str, Any]], log: Path) -> dict[str, Any]:
    """Return what `work` returns in a forked child, or how that died, with what it wrote on stderr."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.write(writer, json.dumps(work()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        os.set_blocking(reader, False)
        data, code = b"", waited(child)
        data = answers.read() or b""
    died = {"code": code} if code else {}
    return {**(json.loads(data) if data else {}), **died, "stderr": log.read_text()}


def waited(child: int) -> int:
    """Return the exit code of a child, which must end in time."""
    for _ in range(SECONDS * 500):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 124


def forget_global_stream() -> None:
    torch.set_rng_state = lambda _: None


def forget_emulator() -> None:
    Catch.set_state = lambda *_: None


def write_in_place() -> None:
    def write(self: Checkpoints, target: Path, files: dict[str, bytes], manifest: Any) -> None:
        target.mkdir(exist_ok=True)
        for name, data in {**files, MANIFEST: manifest.to_bytes()}.items():
            write_through(target / name, data)

    Checkpoints._write = write
    Checkpoints._next_number = lambda _: 1


def write_manifest_first() -> None:
    def write(self: Checkpoints, target: Path, files: dict[str, bytes], manifest: Any) -> None:
        target.mkdir()
        for name, data in {MANIFEST: manifest.to_bytes(), **files}.items():
            write_through(target / name, data)

    Checkpoints._write = write


def drop_newest_steps() -> None:
    with_new = Checkpoints._with_new
    Checkpoints._with_new = lambda self, steps: with_new(self, steps)[:-1]


SABOTAGE: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "global stream": forget_global_stream,
    "emulator": forget_emulator,
    "in place": write_in_place,
    "manifest first": write_manifest_first,
    "steps dropped": drop_newest_steps,
}


def main() -> None:
    torch.set_num_threads(1)
    list(session_for("Catch").trainer.epochs())
    works = {"pretraining": Pretraining(), **{game: Training(game) for game in GAMES}}
    gc.freeze()
    print("warm", flush=True)
    for line in sys.stdin:
        trial = json.loads(line)
        log = Path(trial["folder"]).with_suffix(".log")
        answer = in_child(lambda trial=trial: run_trial(works[trial["work"]], trial), log)
        print(json.dumps(answer), flush=True)
    os._exit(0)  # what was frozen cannot be taken apart


if __name__ == "__main__":
    main()
