"""In which epochs each component is trained."""

from itertools import pairwise

import torch

from irisflow import params
from irisflow.params import Choice
from irisflow.stages.session import prepare
from irisflow.training.loop import Trainer

OVERRIDES = (
    "env.train.id=Catch",
    "collection.train.config.num_steps=16",
    "evaluation.should=false",
    "common.epochs=3",
    "training.tokenizer.stop_after_epochs=2",
    "training.world_model.start_after_epochs=1",
    "training.actor_critic.stop_after_epochs=0",
)


def weights(trainer: Trainer, name: str) -> torch.Tensor:
    parts = [tensor.flatten().float() for tensor in getattr(trainer.agent, name).state_dict().values()]
    return torch.cat(parts).clone()


def test_a_component_is_trained_from_after_its_start_until_its_stop() -> None:
    composed = params.compose(Choice("smoke", variant="iris", overrides=OVERRIDES))
    trainer = prepare(params.stage_settings("train_agent", composed), scale="smoke", game="Catch").trainer
    updates, tokenizers = [trainer.num_updates], [weights(trainer, "tokenizer")]
    for _ in trainer.epochs():
        updates.append(trainer.num_updates)
        tokenizers.append(weights(trainer, "tokenizer"))
    assert [each["tokenizer"] for each in updates] == [0, 2, 4, 4]
    assert [each["world_model"] for each in updates] == [0, 0, 2, 4]
    assert [each["actor_critic"] for each in updates] == [0, 0, 0, 0]
    changed = [not torch.equal(*pair) for pair in pairwise(tokenizers)]
    assert changed == [True, True, False]
