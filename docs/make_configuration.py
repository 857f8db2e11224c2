"""Writes docs/configuration.md from schema, params and the stages' slices: `./run python docs/make_configuration.py`."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from irisflow import params, schema, variants
from irisflow.params import Choice

TARGET = Path(__file__).with_name("configuration.md")
IRIS_TARGET = TARGET.with_name("iris-keys.md")
LETTERS = {
    "collect": "C",
    "pretrain_tokenizer": "T",
    "pretrain_world_model": "W",
    "train_agent": "A",
    "evaluate": "E",
    "play_random": "R",
    "hold_out": "H",
    "measure_world_model": "M",
}
# Keys of IRIS that are accepted, so that its command lines work, but that change nothing here.
WITHOUT_EFFECT = (
    "collection.test.stop_after_epochs",
    "collection.test.config.burn_in",
    "env.keymap",
    "datasets.train.max_num_episodes",
    "datasets.test.max_ram_usage",
)
# Keys of what a run by hand saves and shows: the stage `train_agent` is given them and has no use for them.
BY_HAND = (
    "collection.train.num_episodes_to_save",
    "collection.test.num_episodes_to_save",
    "evaluation.tokenizer.save_reconstructions",
    "evaluation.actor_critic",
    "datasets.train.name",
    "datasets.test.name",
    "common.resume",
    "wandb",
    "logging",
)
# Keys that IRIS does not have.
ADDED = (
    "common.num_threads",
    "common.precision",
    "common.parallel_envs",
    "common.cuda_graphs",
    "training.sample_by",
    "training.tokenizer.trained",
    "training.world_model.trained",
    "world_model.actions",
    "training.time_limit_is_end",
    "training.control",
    "training.tokenizer.learning_rate",
    "training.tokenizer.stop_after_epochs",
    "training.world_model.learning_rate",
    "training.world_model.stop_after_epochs",
    "training.actor_critic.learning_rate",
    "training.actor_critic.stop_after_epochs",
    "evaluation.final",
    "evaluation.num_snapshots",
    "evaluation.world_model_quality",
    "tokenizer.name",
    "tokenizer.quantizer",
    "tokenizer.reconstruction",
    "world_model.name",
    "world_model.backbone",
    "world_model.prediction",
    "world_model.reward",
    "tokenizer.tokens_per_position",
    "training.actor_critic.normalise_returns",
    "training.actor_critic.max_kept_pictures",
    "training.actor_critic.mask_after_end",
    "actor_critic.name",
    "actor_critic.hidden_dim",
    "actor_critic.channels",
    "initialization.tokenizer",
    "initialization.world_model",
    "recording",
    "pretraining",
    "corpus",
    "logging",
    "scale",
    "variant",
    "collection.test.stop_after_epochs",
    "datasets.train.max_num_episodes",
    "datasets.test.max_ram_usage",
)
MEANINGS = {
    "common.epochs": "epochs of a run",
    "common.device": "`auto` (CUDA where there is one), `cpu`, `cuda:0`, ...",
    "common.do_checkpoint": "keep what a stopped run goes on from, after each epoch",
    "common.seed": "all random streams of a run derive from it; a study gives it",
    "common.sequence_length": "steps of a world-model segment; at most `world_model.max_blocks`",
    "common.resume": "go on with the run whose folder is the working directory, or `hydra.run.dir`",
    "common.precision": "of training's passes: `bfloat16` is an autocast; weights, codes, losses and play stay float32",
    "common.num_threads": "torch's CPU threads; another count gives other bytes",
    "common.parallel_envs": "test games are stepped by a process on each core; changes speed only",
    "common.cuda_graphs": "on a GPU imagination is recorded once and replayed as one CUDA graph: faster, more memory,"
    " other random numbers",
    "collection.train.num_envs": "must be 1: one environment collects, as in IRIS",
    "collection.train.num_episodes_to_save": "newest training episodes in `media/`, and the best one; 0: none",
    "collection.train.config.epsilon": "probability of a uniformly random action",
    "collection.train.config.burn_in": "past frames that warm up the policy when a call goes on with an open episode",
    "collection.train.config.should_sample": "draw actions; false takes the likeliest",
    "collection.train.config.temperature": "logits are divided by it",
    "collection.train.config.num_steps": "agent steps of an epoch, 1 or more",
    "collection.train.config.num_episodes": "must be null: training collects by steps",
    "collection.train.stop_after_epochs": "last epoch that collects",
    "collection.test.num_envs": "games played at once; changes speed only",
    "collection.test.num_episodes_to_save": "newest test episodes in `media/`, and the best one; 0: none",
    "collection.test.config.epsilon": "as in training",
    "collection.test.config.burn_in": "a test game starts from its beginning",
    "collection.test.config.should_sample": "draw actions; false takes the likeliest",
    "collection.test.config.temperature": "as in training",
    "collection.test.config.num_steps": "must be null: testing plays whole games",
    "collection.test.config.num_episodes": "games of an evaluation while training, 1 or more",
    "collection.test.stop_after_epochs": "`evaluation.every` decides",
    "training.should": "false: collect and evaluate only",
    "training.learning_rate": "of the optimisers that name no other",
    "learning_rate": "of this component's optimiser",
    "training.sample_by": "`episode`: uniform over episodes, as IRIS; `step`: over steps",
    "training.time_limit_is_end": "an episode that runs out of time counts as ended, as in IRIS; false: its future counts",
    "batch_num_samples": "frames, segments or rollouts of a batch",
    "grad_acc_steps": "batches of an update",
    "max_grad_norm": "gradients are clipped to this global norm; null: not",
    "start_after_epochs": "the first epoch after this one is the first that does it",
    "stop_after_epochs": "the last epoch that does it; null: the last of all, as in IRIS",
    "steps_per_epoch": "updates of an epoch",
    "training.tokenizer.trained": "`decoder`: only what follows the codes, so that tokens stay as they are; `none`: nothing",
    "training.world_model.trained": "`none`: nothing",
    "training.world_model.weight_decay": "on Linear weights only",
    "training.actor_critic.imagine_horizon": "imagined steps",
    "training.actor_critic.burn_in": "frames that warm up the policy before it imagines",
    "training.actor_critic.max_kept_pictures": "while the tokenizer stays as it is, reconstructions are kept, on the"
    " device, if the replay buffer has no more frames: 48 KiB each, 4.9 GB at IRIS's scale; changes speed and memory only",
    "training.actor_critic.gamma": "discount",
    "training.actor_critic.lambda_": "of the lambda-returns",
    "training.actor_critic.normalise_returns": "divide advantages by the range of returns if above 1; IRIS: false",
    "training.actor_critic.mask_after_end": "leave out imagined steps after an imagined end; IRIS: false",
    "training.actor_critic.entropy_weight": "weight of the entropy term",
    "training.control.name": "what is broken on purpose (a file of `params/control/`): for negative controls only",
    "training.control.rewards": "whose imagined rewards the actor-critic gets: its own, or dealt out anew",
    "training.control.frames": "whose frames the policy sees in imagination",
    "training.control.world_model": "whether the world model is trained",
    "evaluation.should": "false: no evaluation while training",
    "evaluation.every": "epochs from one evaluation to the next",
    "evaluation.tokenizer.save_reconstructions": "a picture after each evaluation in `media/reconstructions`",
    "evaluation.actor_critic.num_episodes_to_save": "imagined episodes in `media/` after each evaluation; 0: none",
    "evaluation.actor_critic.horizon": "their steps",
    "evaluation.actor_critic.start_after_epochs": "the first epoch after this one is the first that has them",
    "evaluation.final.num_episodes": "games of a final score",
    "evaluation.final.num_envs": "games played at once; changes speed only",
    "evaluation.final.temperature": "logits are divided by it",
    "evaluation.final.epsilon": "probability of a uniformly random action",
    "evaluation.num_snapshots": "moments of training, the first before it, at which tokenizer and world model are kept",
    "evaluation.world_model_quality.should": "false: a study does not measure its world models",
    "evaluation.world_model_quality.held_out.num_steps": "agent steps of the held-out recording",
    "evaluation.world_model_quality.held_out.epsilon": "probability of a uniformly random action in it",
    "evaluation.world_model_quality.held_out.temperature": "the player's logits are divided by it",
    "evaluation.world_model_quality.context": (
        "real frames before an open-loop forecast, beside 1; less than `world_model.max_blocks`"
    ),
    "evaluation.world_model_quality.num_starts": "open-loop forecasts, evenly spread over the recording",
    "evaluation.world_model_quality.num_samples": "draws of each forecast",
    "evaluation.world_model_quality.num_films": "forecasts kept as pictures",
    "id": "game or gymnasium id; a study gives it",
    "size": "height and width of an observation; equals the tokenizer's `resolution`",
    "max_episode_steps": "time limit in emulator frames, no-ops included",
    "noop_max": "a game starts with 1 to this many no-ops (0: none)",
    "frame_skip": "emulator frames of an agent step",
    "done_on_life_loss": "a lost life ends the episode; the game goes on in the next",
    "clip_reward": "sign of each frame's reward instead of the reward",
    "env.keymap": "`irisflow play` takes its keys from the game's actions",
    "tokenizer.name": "which file of params/tokenizer/; part of the artefact's address",
    "tokenizer.vocab_size": "codes",
    "tokenizer.tokens_per_position": "of the map between encoder and decoder; more than 1 with `residual_vq` only",
    "tokenizer.embed_dim": "width of a code",
    "resolution": "height and width of a frame",
    "in_channels": "colours",
    "z_channels": "channels of the encoder's output",
    "ch": "channels of the first convolution",
    "ch_mult": "channels of each level, in multiples of `ch`; each level but the first halves the resolution",
    "num_res_blocks": "residual blocks of a level",
    "attn_resolutions": "resolutions at which there is attention",
    "out_ch": "colours of the reconstruction",
    "dropout": "in residual blocks",
    "tokenizer.quantizer.name": "which module of `tokenizer/quantizers/`",
    "tokenizer.quantizer.vocab_size": "codes",
    "tokenizer.quantizer.embed_dim": "width of a code",
    "tokenizer.quantizer.beta": "weight of the commitment term",
    "tokenizer.quantizer.revive_after": "training batches after which an unused code moves onto a latent; 0: never, as IRIS",
    "tokenizer.reconstruction.l2.weight": "weight of the mean squared difference; not IRIS's",
    "tokenizer.reconstruction.l1.weight": "weight of the mean absolute difference",
    "tokenizer.reconstruction.lpips.weight": "weight of LPIPS; 0: not built",
    "tokenizer.reconstruction.lpips.trunk": "`imagenet` or `shift_tolerant`, see [lpips-weights.md](lpips-weights.md)",
    "tokenizer.reconstruction.lpips.dropout": "the heads' dropout acts while training, as in IRIS",
    "world_model.name": "which file of params/world_model/; part of the artefact's address",
    "tokens_per_block": "tokens of a frame, and one for the action",
    "actions": "`all`: a table of the 18 Atari actions, so that one world model serves many games",
    "max_blocks": "blocks of the window",
    "attention": "`block_causal`: tokens of a block see each other",
    "num_layers": "Transformer layers",
    "num_heads": "attention heads; divide `embed_dim`",
    "embed_dim": "width of the Transformer",
    "embed_pdrop": "dropout on embeddings",
    "resid_pdrop": "dropout on residual branches",
    "attn_pdrop": "dropout on attention weights",
    "max_tokens": "tokens of the window",
    "world_model.backbone.name": "which module of `world_model/backbones/`",
    "world_model.prediction.name": "which module of `world_model/prediction/`",
    "world_model.reward.name": "which module of `world_model/rewards/`",
    "actor_critic.name": "which module of `behaviour/actor_critics/`",
    "actor_critic.hidden_dim": "width of the LSTM",
    "actor_critic.channels": "of the convolutions; each halves the resolution",
    "actor_critic.use_original_obs": "in real games, see real frames instead of reconstructions",
    "initialization.path_to_checkpoint": (
        "an agent to start from: our folder, which must fit, or a file of IRIS (`.pt`) or of a VQGAN (`.ckpt`), of which is"
        " taken what fits"
    ),
    "initialization.load_tokenizer": "with `path_to_checkpoint`: take its tokenizer",
    "initialization.load_world_model": "with `path_to_checkpoint`: take its world model",
    "initialization.load_actor_critic": "with `path_to_checkpoint`: take its actor-critic",
    "initialization.tokenizer": "`pretrained`: from the stage `pretrain_tokenizer`",
    "initialization.world_model": "`pretrained`: from the stage `pretrain_world_model`",
    "datasets.train.max_ram_usage": "of the frames in the replay buffer; beyond it the oldest episodes go",
    "datasets.train.name": "what training episodes are called in metrics",
    "datasets.train.max_num_episodes": "`max_ram_usage` bounds the replay buffer",
    "datasets.test.max_ram_usage": "one evaluation is in memory at a time",
    "datasets.test.max_num_episodes": "the newest episodes of an evaluation on which losses are measured; null: all",
    "datasets.test.name": "what test episodes are called in metrics",
    "recording.num_steps": "agent steps of a recording; null: all of an imported data set",
    "recording.policy": "who played: `random` in the environment now, `recorded` whoever made the data set",
    "recording.dataset": "an imported data set, by name; `recording=NAME` says it and all of its keys",
    "pretraining.tokenizer.num_updates": "updates of the stage",
    "pretraining.world_model.num_updates": "updates of the stage",
    "corpus.name": "which recordings pretraining reads: of the game itself, of a pool, of the pool without the game",
    "corpus.games": "the pool: `scale.corpus.games`; none for `own`",
    "wandb.mode": "`auto`: online where there is a login, else disabled",
    "logging.display": "`auto`: live on a terminal that is large enough, else lines",
    "logging.tensorboard": "also write `tensorboard/` in the run folder",
    "wandb.project": "as in Weights & Biases",
    "wandb.entity": "as in Weights & Biases",
    "wandb.name": "as in Weights & Biases",
    "wandb.group": "as in Weights & Biases",
    "wandb.tags": "as in Weights & Biases",
    "wandb.notes": "as in Weights & Biases",
    "scale": "the numbers of `params/scale/NAME.yaml`; the keys above take them from here",
    "variant": "name, axis and question of `params/variant/NAME.yaml`, for the report",
}
HEAD = """<!-- written by docs/make_configuration.py: change that, or src/irisflow/schema.py, and run it again -->
# Configuration: every key

A run's configuration is composed from `params/` by Hydra and checked against `src/irisflow/schema.py`: an unknown
key, a value of another type or one out of range stops everything with one line, before anything runs. Change a key

- for a whole study, under `overrides:` of its file: `overrides: ["training.actor_critic.gamma=0.99"]`;
- for one stage by hand: `irisflow train-agent ... --override training.actor_critic.gamma=0.99`;
- for one run by hand: `python src/main.py env.train.id=Pong training.actor_critic.gamma=0.99`.

Which files are composed: `scale=`, `variant=`, `tokenizer=`, `world_model=`, `actor_critic=`, `initialization=`,
`corpus=`, `recording=` and `env=` choose files of `params/`; `quantizer=`, `reconstruction=`, `backbone=`,
`prediction=` and `reward=` change a part of the tokenizer or world model. (A changed tokenizer that is pretrained
deserves a file and name of its own in `params/tokenizer/`: artefacts are addressed by that name, so
variants that share it share its pretraining.)

The columns: **`full`** is the value at scale `full`: IRIS's, apart from `common.device`, `wandb` and the default game;
a name in *italics* is a key that IRIS does not have. **Stages** are those that are given the key: C `collect`,
T `pretrain_tokenizer`, W `pretrain_world_model`, A `train_agent`, E `evaluate`, R `play_random`,
H `hold_out`, M `measure_world_model`. A changed value plans these stages again, and what stands on them; except
{not_in_digest}, which are in no digest.
A key marked **no effect** is accepted so that IRIS's command lines work. It changes no number. **By hand**: it acts in
[runs by hand](by-hand.md) only.
"""
IRIS_HEAD = """<!-- written by docs/make_configuration.py: change that, or src/irisflow/schema.py, and run it again -->
# Every key of IRIS, and what it does here

For a [run by hand](by-hand.md). The value is what the launch line gives where it says nothing: IRIS's own at the default
scale `full`, apart from `common.device` (IRIS: `cuda:0`) and `wandb` (IRIS: `online`, project `iris`). What this project
adds stands in [configuration.md](configuration.md).

| word of IRIS's command line | here |
|---|---|
| `tokenizer=default`, `world_model=default`, `actor_critic=default`, `env=default`, `datasets=default` | IRIS's own: \
`tokenizer=iris`, `world_model=iris`, `actor_critic=cnn_lstm`, `env=atari` |
| `KEY._target_=...` | accepted where it names what IRIS builds by default; else refused: parts are \
chosen by name, `tokenizer=fsq` |
| `hydra.run.dir=FOLDER` | the run folder, instead of `outputs/YYYY-MM-DD/hh-mm-ss`; with `common.resume=true` the run \
to go on with |
| `hydra.output_subdir`, `hydra.job.chdir` | accepted, without effect |
| `+KEY=VALUE` | as `KEY=VALUE`: there are no keys but those of the schema |
"""
STUDY = """
## Study files

`params/study/NAME.yaml`. `snakemake --config study=NAME`; also `scale=NAME` there replaces the study's scale.

| key | type | meaning |
|---|---|---|
| `title` | str | title of the report; changing it plans the report only |
| `scale` | str | a file of `params/scale/` |
| `games` | list | names that `irisflow list` prints, or gymnasium ids (`module:Name-v0`; `+` in place of `/`), each once |
| `variants` | list | files of `params/variant/`, each once |
| `baseline` | str | the variant that the others are compared with |
| `seeds` | list | integers from 0, each once |
| `random_play` | int | seeds of random play per game, which every variant is compared with; 0 (none) by default |
| `statistics.bootstrap_reps` | int | bootstrap samples of an interval, 1 or more |
| `overrides` | list | `key=value`, for all runs of the study |
"""


def page() -> str:
    """Return the whole page."""
    whole = params.compose(Choice("full"))
    slices = {stage: params.stage_slice(stage, whole) for stage in params.STAGE_KEYS}
    text = HEAD.format(not_in_digest=", ".join(f"`{key}`" for key in params.NOT_IN_DIGEST))
    for section in fields(schema.Settings):
        text += f"\n## {section.name}\n\n| key | type | range | `full` | meaning | stages |\n|---|---|---|---|---|---|\n"
        for key, kind, bounds in leaves(section, whole[section.name], section.name):
            text += _row(key, kind, bounds, OmegaConf.select(whole, key), _readers(key, slices))
    return text + STUDY


def iris_page() -> str:
    """Return the page of the keys that IRIS has."""
    whole = params.compose(Choice("full"))
    text = IRIS_HEAD
    for section in fields(schema.Settings):
        rows = [
            (key, OmegaConf.select(whole, key))
            for key, _, _ in leaves(section, whole[section.name], section.name)
            if not is_under(key, ADDED)
        ]
        if rows:
            text += f"\n## {section.name}\n\n| key | value | here |\n|---|---|---|\n"
            text += "".join(f"| `{key}` | {_shown(value)} | {_told(key)} |\n" for key, value in rows)
    return text


def leaves(entry: "Field[Any]", node: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, type, range) of a schema field and all below it; parts of a variant from what is composed."""
    if isinstance(entry.type, type) and is_dataclass(entry.type):
        for inner in fields(entry.type):
            yield from leaves(inner, node[inner.name], f"{key}.{inner.name}")
    elif key in ("scale", "variant"):
        yield key, "mapping", ""
    elif OmegaConf.is_dict(node):
        for path, value in _plain_leaves(OmegaConf.to_container(node), key):
            yield path, type(value).__name__, _range_in_part(path, key.rpartition(".")[2], node)
    else:
        kind = entry.type.__name__ if isinstance(entry.type, type) else str(entry.type)
        yield key, kind, _range(entry)


def meaning(key: str) -> str:
    """Return what a key means: its own entry, or that of its last word. Raises KeyError where there is neither."""
    last = key.rsplit(".", 1)[-1]
    if key not in MEANINGS and last not in MEANINGS:
        raise KeyError(f"{key} has no meaning: give it one in MEANINGS of docs/make_configuration.py")
    return MEANINGS.get(key) or MEANINGS[last]


def is_under(key: str, parents: tuple[str, ...]) -> bool:
    """Return whether a key is one of those named, or below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _plain_leaves(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _plain_leaves(value, f"{key}.{name}")
    else:
        yield key, tree


def _range_in_part(key: str, family: str, part: Any) -> str:
    """Return the range of a key of a variant, whose settings (or, of a reconstruction, all terms) are `part`."""
    owner, _, name = key.rpartition(".")
    variant = part["name"] if "name" in part else owner.rpartition(".")[2]
    least = variants.least(family, variant).get(name)
    return "" if least is None else f"{least:g} or more"


def _range(entry: "Field[Any]") -> str:
    least, most, among = (entry.metadata.get(bound) for bound in ("least", "most", "among"))
    if among:
        return ", ".join(among)
    if least is None and most is None:
        return ""
    return f"{least:g} or more" if most is None else f"{least:g} to {most:g}"


def _readers(key: str, slices: dict[str, dict[str, Any]]) -> str:
    return "".join(LETTERS[stage] for stage, tree in slices.items() if _has(tree, key))


def _has(tree: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _row(key: str, kind: str, bounds: str, value: Any, stages: str) -> str:
    name = f"*`{key}`*" if is_under(key, ADDED) else f"`{key}`"
    shown = "" if key in ("scale", "variant") else _shown(value)
    text = _told(key)
    return f"| {name} | {kind.replace('|', 'or')} | {bounds} | {shown} | {text} | {stages} |\n"


def _told(key: str) -> str:
    """Return what a key means, and whether it acts everywhere."""
    if is_under(key, WITHOUT_EFFECT):
        return f"**no effect**: {meaning(key)}"
    return f"**by hand**: {meaning(key)}" if is_under(key, BY_HAND) else meaning(key)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    IRIS_TARGET.write_text(iris_page(), encoding="utf-8")
