"""Command lines of IRIS mean here what they mean there."""

from pathlib import Path

import pytest

from irisflow import params
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError
from irisflow.iris_words import understood

# The keys of IRIS's config/trainer.yaml and of the files that it is composed of, with its values.
LINE_OF_IRIS = """
common.epochs=600 common.device=cuda:0 common.do_checkpoint=True common.seed=0 common.sequence_length=20
common.resume=False
collection.train.num_envs=1 collection.train.stop_after_epochs=500 collection.train.num_episodes_to_save=10
collection.train.config.epsilon=0.01 collection.train.config.should_sample=True
collection.train.config.temperature=1.0 collection.train.config.num_steps=200 collection.train.config.burn_in=20
collection.test.num_envs=8 collection.test.num_episodes_to_save=8 collection.test.config.epsilon=0.0
collection.test.config.should_sample=True collection.test.config.temperature=0.5
collection.test.config.num_episodes=16 collection.test.config.burn_in=20
training.should=True training.learning_rate=0.0001
training.tokenizer.batch_num_samples=256 training.tokenizer.grad_acc_steps=1 training.tokenizer.max_grad_norm=10.0
training.tokenizer.start_after_epochs=5 training.tokenizer.steps_per_epoch=200
training.world_model.batch_num_samples=64 training.world_model.grad_acc_steps=1
training.world_model.max_grad_norm=10.0 training.world_model.weight_decay=0.01
training.world_model.start_after_epochs=25 training.world_model.steps_per_epoch=200
training.actor_critic.batch_num_samples=64 training.actor_critic.grad_acc_steps=1
training.actor_critic.max_grad_norm=10.0 training.actor_critic.start_after_epochs=50
training.actor_critic.steps_per_epoch=200 training.actor_critic.imagine_horizon=20
training.actor_critic.burn_in=20 training.actor_critic.gamma=0.995 training.actor_critic.lambda_=0.95
training.actor_critic.entropy_weight=0.001
evaluation.should=True evaluation.every=5 evaluation.tokenizer.batch_num_samples=256
evaluation.tokenizer.start_after_epochs=5 evaluation.tokenizer.save_reconstructions=True
evaluation.world_model.batch_num_samples=64 evaluation.world_model.start_after_epochs=25
evaluation.actor_critic.num_episodes_to_save=64 evaluation.actor_critic.horizon=20
evaluation.actor_critic.start_after_epochs=50
tokenizer.vocab_size=512 tokenizer.embed_dim=512 tokenizer.encoder.config.resolution=64
tokenizer.encoder.config.in_channels=3 tokenizer.encoder.config.z_channels=512 tokenizer.encoder.config.ch=64
tokenizer.encoder.config.ch_mult=[1,1,1,1,1] tokenizer.encoder.config.num_res_blocks=2
tokenizer.encoder.config.attn_resolutions=[8,16] tokenizer.encoder.config.out_ch=3
tokenizer.encoder.config.dropout=0.0 tokenizer.decoder.config.ch=64
world_model.tokens_per_block=17 world_model.max_blocks=20 world_model.attention=causal world_model.num_layers=10
world_model.num_heads=4 world_model.embed_dim=256 world_model.embed_pdrop=0.1 world_model.resid_pdrop=0.1
world_model.attn_pdrop=0.1
actor_critic.use_original_obs=False
env.train.id=BreakoutNoFrameskip-v4 env.train.size=64 env.train.max_episode_steps=20000 env.train.noop_max=30
env.train.frame_skip=4 env.train.done_on_life_loss=True env.train.clip_reward=False env.test.size=64
env.test.max_episode_steps=108000 env.test.noop_max=1 env.test.frame_skip=4 env.test.done_on_life_loss=False
env.test.clip_reward=False env.keymap=atari/BreakoutNoFrameskip-v4
datasets.train.max_ram_usage=30G datasets.train.name=train_dataset datasets.test.max_num_episodes=null
datasets.test.name=test_dataset
initialization.path_to_checkpoint=null initialization.load_tokenizer=True initialization.load_world_model=True
initialization.load_actor_critic=True
wandb.mode=online wandb.project=iris wandb.entity=null wandb.name=null wandb.group=null wandb.tags=null
wandb.notes=null
"""
KEYS_OF_IRIS = LINE_OF_IRIS.split()


def test_every_key_of_iris_is_accepted_and_its_value_is_the_default() -> None:
    default = params.settings_from(["env.train.id=BreakoutNoFrameskip-v4"])
    whole = params.settings_from(understood(KEYS_OF_IRIS).overrides)
    differing = {key: whole[key] for key in whole if whole[key] != default[key]}
    assert differing.keys() == {"common", "wandb"}
    assert (whole.common.device, whole.wandb.mode, whole.wandb.project) == ("cuda:0", "online", "iris")
    assert {**whole.common, "device": "auto"} == default.common


@pytest.mark.parametrize("key", [word.partition("=")[0] for word in KEYS_OF_IRIS])
def test_a_key_of_iris_is_in_the_table(key: str) -> None:
    page = Path(__file__).parents[2] / "docs/iris-keys.md"
    assert f"| `{key}` |" in page.read_text("utf-8")


@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_old_and_new_ids_mean_the_same_preprocessing(game: str) -> None:
    pictures = []
    for name in (game, f"{game}NoFrameskip-v4", f"ALE/{game}-v5"):
        settings = params.settings_from([f"env.train.id={name}", "scale=smoke"]).env.train
        environment = make_environment(settings)
        observation, _ = environment.reset(seed=3)
        seen = [observation.tobytes()]
        for action in (1, 2, 3, 0, 1) * 4:
            observation, reward, terminated, truncated, info = environment.step(action)
            seen.append((observation.tobytes(), reward, terminated, truncated, info["lives"], info["frames"]))
        pictures.append(seen)
        environment.close()
    assert pictures[0] == pictures[1] == pictures[2]


def test_words_of_hydra_and_of_iris_groups_are_understood() -> None:
    line = [
        "hydra.run.dir=here",
        "hydra.output_subdir=null",
        "env.train._target_=envs.make_atari",
        "tokenizer=default",
        "datasets=default",
        "+env.train.id=Pong",
        "scale=smoke",
    ]
    words = understood(line)
    assert words.folder == Path("here")
    assert words.overrides == ["tokenizer=iris", "env.train.id=Pong", "scale=smoke"]


@pytest.mark.parametrize("line", ["hydra.sweep.dir=x", "tokenizer._target_=mine.Tokenizer"])
def test_what_hydra_cannot_do_here_is_refused_and_what_can_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir|tokenizer="):
        understood([line])


def test_variant_scale_and_initialization_are_named_on_the_same_line() -> None:
    line = ["env.train.id=Pong", "variant=quantizer_fsq", "scale=quick", "initialization=frozen_tokenizer"]
    whole = params.settings_from(understood(line).overrides)
    assert (whole.variant.name, whole.scale.name) == ("quantizer_fsq", "quick")
    assert whole.tokenizer.quantizer.name == "fsq" and whole.training.tokenizer.trained == "none"
