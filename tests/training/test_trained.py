"""What trains after initialization: all of the tokenizer, its decoder only, or nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from warm import TINY, outcome, sha256

from irisflow import params
from irisflow.errors import ConfigError
from irisflow.params import Choice
from irisflow.provenance import Cost
from irisflow.stages.session import Session, prepare, weights_of
from irisflow.tokenizer.tokenizer import Tokenizer
from irisflow.training.run import History, train

DECIDING = ("encoder.", "pre_quant_conv.", "quantizer.")


def settings_with(tokenizer: str, world_model: str = "all") -> Any:
    """Return Catch's tiny settings; where weights come from is none of the trainer's business."""
    choice = Choice("smoke", variant="iris", overrides=("env.train.id=Catch", *TINY))
    whole = OmegaConf.create(OmegaConf.to_container(params.compose(choice)))
    whole.training.tokenizer.trained, whole.training.world_model.trained = tokenizer, world_model
    return params.stage_settings("train_agent", whole)


def session_with(*trained: str) -> Session:
    return prepare(settings_with(*trained), scale="smoke", game="Catch")


def copied(session: Session, part: str) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in getattr(session.agent, part).state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_with_decoder_nothing_that_tokens_depend_on_changes_and_all_else_does() -> None:
    session = session_with("decoder")
    before = copied(session, "tokenizer")
    assert "quantizer.idle" in before, "dead codes would be revived after two batches"
    list(session.trainer.epochs())
    moved = changed(before, copied(session, "tokenizer"))
    assert moved == {name for name in before if not name.startswith(DECIDING)}
    assert session.trainer.num_updates["tokenizer"] > 0
    groups = session.trainer.components["tokenizer"].optimizer.param_groups
    names = {name for name, p in session.agent.tokenizer.named_parameters() if p.requires_grad}
    assert names == moved and sum(len(group["params"]) for group in groups) == len(names)


def test_with_all_the_codes_move_too() -> None:
    session = session_with("all")
    before = copied(session, "tokenizer")
    list(session.trainer.epochs())
    assert any(name.startswith("encoder.") for name in changed(before, copied(session, "tokenizer")))


@pytest.mark.parametrize(("trained", "num_encoded"), [("decoder", 0), ("all", 1)])
def test_tokens_are_kept_while_only_the_decoder_trains(trained: str, num_encoded: int) -> None:
    trainer = session_with(trained).trainer
    next(trainer.epochs())
    replay, groups = trainer.encoded_replay, []

    def drawn() -> torch.Tensor:
        batch = replay.sample(4, 2, anchor="start", sample_by="step", rng=np.random.default_rng(0))
        assert batch.tokens is not None
        return batch.tokens

    kept = drawn()
    hook = trainer.agent.tokenizer.encoder.register_forward_pre_hook(lambda *_: groups.append(1))
    trainer.components["tokenizer"].train(1, what="test")
    groups.clear()  # the update itself encodes, too
    tokens = drawn()
    hook.remove()
    assert len(groups) == num_encoded
    assert trained == "all" or torch.equal(tokens, kept)


@pytest.mark.parametrize("part", ["tokenizer", "world_model"])
def test_with_none_a_part_stays_as_it_is_and_its_phase_is_skipped(part: str) -> None:
    session = session_with(*(("none",) if part == "tokenizer" else ("all", "none")))
    before = copied(session, part)
    reports = list(session.trainer.epochs())
    assert not changed(before, copied(session, part))
    assert all(part not in report.usage for report in reports)
    done = session.trainer.num_updates
    assert [name for name in done if not done[name]] == [part]


def test_train_mode_leaves_fixed_parts_in_eval_mode() -> None:
    tokenizer: Tokenizer = session_with("decoder").agent.tokenizer
    tokenizer.train()
    modes = {name: module.training for name, module in tokenizer.named_modules() if name}
    assert not any(is_on for name, is_on in modes.items() if f"{name}.".startswith(DECIDING))
    assert all(is_on for name, is_on in modes.items() if not f"{name}.".startswith(DECIDING))


class PowerCutError(Exception):
    """Ends a training from outside."""


def finished(session: Session, settings: Any, folder: Path, *, cut_after: int | None = None) -> History:
    def after_epoch(_: History, trainer: Any) -> None:
        if trainer.epoch == cut_after:
            raise PowerCutError

    cost = Cost("test")
    return train(
        session.trainer, settings, cost, checkpoint=folder, digest="d", what="test", after_epoch=after_epoch
    )


@pytest.mark.parametrize("trained", ["decoder", "none"])
def test_a_run_that_was_cut_ends_in_the_bytes_of_one_that_was_not(trained: str, in_ram: Path) -> None:
    settings, stream = settings_with(trained), torch.get_rng_state()
    whole = session_with(trained)
    expected = outcome(whole, finished(whole, settings, in_ram / "whole")), sha256(weights_of(whole.agent))
    with pytest.raises(PowerCutError):
        finished(session_with(trained), settings, in_ram / "cut", cut_after=1)
    torch.set_rng_state(stream)
    resumed = session_with(trained)
    found = outcome(resumed, finished(resumed, settings, in_ram / "cut")), sha256(weights_of(resumed.agent))
    assert found == expected


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["training.tokenizer.trained=none"], "nothing gives the tokenizer weights"),
        (["training.tokenizer.trained=decoder"], "initialization.tokenizer=pretrained"),
        (["training.world_model.trained=none"], "nothing gives the world_model weights"),
        (
            [
                "training.tokenizer.trained=none",
                "initialization.path_to_checkpoint=x",
                "initialization.load_tokenizer=false",
            ],
            "nothing gives the tokenizer weights",
        ),
    ],
)  # fmt: skip
def test_a_random_part_that_is_never_trained_is_refused(overrides: list[str], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        params.settings_from(["scale=smoke", *overrides])
    with pytest.raises(ConfigError, match=wanted):
        params.compose(Choice("smoke", variant="iris", overrides=tuple(overrides)))


@pytest.mark.parametrize(
    "overrides", [["initialization.path_to_checkpoint=last.pt"], ["initialization=fine_tuned_tokenizer"]]
)
def test_a_part_that_is_loaded_need_not_train(overrides: list[str]) -> None:
    settings = params.settings_from(["scale=smoke", "training.tokenizer.trained=none", *overrides])
    assert settings.training.tokenizer.trained == "none"


def test_pretraining_trains_all_whatever_follows_it() -> None:
    digests = {
        params.digest("pretrain_tokenizer", params.compose(Choice("smoke", overrides=overrides)), "Catch", 0)
        for overrides in ((), ("training.tokenizer.trained=none",), ("initialization=frozen_tokenizer",))
    }
    assert len(digests) == 1
