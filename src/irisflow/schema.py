"""Every key of a run's configuration, its type and its range. Key names are IRIS's where IRIS has the key.

OmegaConf merges `params/` into these dataclasses: an unknown or ill-typed key stops the run. Values have no defaults
here; they live in `params/`. The metadata `least`, `most` and `among` bound a value.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from irisflow.errors import ConfigError


def bounded(
    least: float | None = None, most: float | None = None, among: tuple[str, ...] | None = None
) -> Any:
    """Return a mandatory field whose value must lie in a range, or among some words."""
    return field(default=MISSING, metadata={"least": least, "most": most, "among": among})


@dataclass
class Common:
    """What all phases share."""

    epochs: int = bounded(1)
    device: str = MISSING
    do_checkpoint: bool = MISSING
    seed: int = bounded(0)
    sequence_length: int = bounded(1)
    resume: bool = MISSING
    precision: str = bounded(among=("float32", "bfloat16"))  # of forward and backward passes while training
    num_threads: int = bounded(1, 1024)  # of torch on the CPU; another count gives other bytes
    parallel_envs: bool = MISSING  # test environments by a process on each core: speed only
    cuda_graphs: bool = MISSING  # on a GPU, imagination is recorded once and replayed


@dataclass
class CollectionConfig:
    """How the agent acts while it collects."""

    epsilon: float = bounded(0, 1)
    should_sample: bool = MISSING
    temperature: float = bounded(1e-6)
    burn_in: int = bounded(0)
    num_steps: int | None = None
    num_episodes: int | None = None


@dataclass
class Collection:
    """One of the two kinds of collection, train or test."""

    num_envs: int = bounded(1)
    num_episodes_to_save: int = bounded(0)
    config: CollectionConfig = field(default_factory=CollectionConfig)
    stop_after_epochs: int | None = None


@dataclass
class Collections:
    """Train collection feeds the replay buffer, test collection the evaluation."""

    train: Collection = field(default_factory=Collection)
    test: Collection = field(default_factory=Collection)


@dataclass
class ComponentTraining:
    """Updates of one component in each epoch, from the one after `start_after_epochs` to `stop_after_epochs` or the last."""

    learning_rate: float = bounded(0)
    batch_num_samples: int = bounded(1)
    grad_acc_steps: int = bounded(1)
    max_grad_norm: float | None = bounded(0)
    start_after_epochs: int = bounded(0)
    stop_after_epochs: int | None = bounded(0)
    steps_per_epoch: int = bounded(0)


@dataclass
class TokenizerTraining(ComponentTraining):
    """Updates of the tokenizer. With `decoder` only what follows the codes is trained, so that tokens never change."""

    trained: str = bounded(among=("all", "decoder", "none"))


@dataclass
class WorldModelTraining(ComponentTraining):
    """Updates of the world model; Linear weights decay."""

    weight_decay: float = bounded(0)
    trained: str = bounded(among=("all", "none"))


@dataclass
class ActorCriticTraining(ComponentTraining):
    """Updates of the actor-critic in imagination."""

    imagine_horizon: int = bounded(2)
    burn_in: int = bounded(0)
    gamma: float = bounded(0, 1)
    lambda_: float = bounded(0, 1)
    entropy_weight: float = bounded(0)
    normalise_returns: bool = MISSING
    mask_after_end: bool = MISSING
    max_kept_pictures: int = bounded(0)


@dataclass
class Control:
    """What is broken on purpose in the actor-critic's training, to show that learning needs it whole."""

    name: str = MISSING
    rewards: str = bounded(among=("imagined", "shuffled"))
    frames: str = bounded(among=("own", "foreign"))
    world_model: str = bounded(among=("trained", "untrained"))


@dataclass
class Training:
    """The three optimisations of an epoch."""

    should: bool = MISSING
    learning_rate: float = bounded(0)
    sample_by: str = bounded(among=("episode", "step"))
    time_limit_is_end: bool = MISSING
    tokenizer: TokenizerTraining = field(default_factory=TokenizerTraining)
    world_model: WorldModelTraining = field(default_factory=WorldModelTraining)
    actor_critic: ActorCriticTraining = field(default_factory=ActorCriticTraining)
    control: Control = field(default_factory=Control)


@dataclass
class TokenizerEvaluation:
    """Tokenizer loss on test frames."""

    batch_num_samples: int = bounded(1)
    start_after_epochs: int = bounded(0)
    save_reconstructions: bool = MISSING


@dataclass
class WorldModelEvaluation:
    """World-model loss on test episodes."""

    batch_num_samples: int = bounded(1)
    start_after_epochs: int = bounded(0)


@dataclass
class ActorCriticEvaluation:
    """Imagined rollouts to look at."""

    num_episodes_to_save: int = bounded(0)
    horizon: int = bounded(1)
    start_after_epochs: int = bounded(0)


@dataclass
class FinalEvaluation:
    """The scores that the report states: the finished agent, fresh episodes."""

    num_episodes: int = bounded(1)
    num_envs: int = bounded(1)
    temperature: float = bounded(1e-6)
    epsilon: float = bounded(0, 1)


@dataclass
class HeldOut:
    """Episodes that no training sees: the finished agent plays, with uniformly random actions in between."""

    num_steps: int = bounded(2)
    epsilon: float = bounded(0, 1)
    temperature: float = bounded(1e-6)


@dataclass
class WorldModelQuality:
    """How tokenizer and world model are measured on held-out episodes. `context` and the horizon fill the window."""

    should: bool = MISSING
    held_out: HeldOut = field(default_factory=HeldOut)
    context: int = bounded(1)
    num_starts: int = bounded(1)
    num_samples: int = bounded(1)
    num_films: int = bounded(1)


@dataclass
class Evaluation:
    """Evaluation while training, and the final one."""

    should: bool = MISSING
    every: int = bounded(1)
    tokenizer: TokenizerEvaluation = field(default_factory=TokenizerEvaluation)
    world_model: WorldModelEvaluation = field(default_factory=WorldModelEvaluation)
    actor_critic: ActorCriticEvaluation = field(default_factory=ActorCriticEvaluation)
    final: FinalEvaluation = field(default_factory=FinalEvaluation)
    num_snapshots: int = bounded(0)
    world_model_quality: WorldModelQuality = field(default_factory=WorldModelQuality)


@dataclass
class Env:
    """One environment's settings. `max_episode_steps` counts emulator frames, no-ops included."""

    id: str = MISSING
    size: int = bounded(16, 512)
    max_episode_steps: int = bounded(1)
    noop_max: int = bounded(0)
    frame_skip: int = bounded(1)
    done_on_life_loss: bool = MISSING
    clip_reward: bool = MISSING


@dataclass
class Envs:
    """Train and test settings apart, as IRIS has them."""

    train: Env = field(default_factory=Env)
    test: Env = field(default_factory=Env)
    keymap: str = MISSING


@dataclass
class NetConfig:
    """Sizes of the tokenizer's encoder or decoder."""

    resolution: int = bounded(16)
    in_channels: int = bounded(1)
    z_channels: int = bounded(1)
    ch: int = bounded(1)
    ch_mult: list[int] = MISSING
    num_res_blocks: int = bounded(0)
    attn_resolutions: list[int] = MISSING
    out_ch: int = bounded(1)
    dropout: float = bounded(0, 1)


@dataclass
class Net:
    """IRIS keeps the sizes one level down."""

    config: NetConfig = field(default_factory=NetConfig)


@dataclass
class Tokenizer:
    """One named tokenizer. The quantizer and the reconstruction terms are variants of their families."""

    name: str = MISSING
    vocab_size: int = bounded(2)
    embed_dim: int = bounded(1)
    tokens_per_position: int = bounded(1)
    encoder: Net = field(default_factory=Net)
    decoder: Net = field(default_factory=Net)
    quantizer: dict[str, Any] = MISSING
    reconstruction: dict[str, dict[str, Any]] = MISSING  # term name -> its settings


@dataclass
class WorldModel:
    """One named world model. Backbone, prediction and reward head are variants of their families."""

    name: str = MISSING
    tokens_per_block: int = bounded(2)
    max_blocks: int = bounded(2)
    actions: str = bounded(among=("game", "all"))
    attention: str = bounded(among=("causal", "block_causal"))
    num_layers: int = bounded(1)
    num_heads: int = bounded(1)
    embed_dim: int = bounded(1)
    embed_pdrop: float = bounded(0, 1)
    resid_pdrop: float = bounded(0, 1)
    attn_pdrop: float = bounded(0, 1)
    backbone: dict[str, Any] = MISSING
    prediction: dict[str, Any] = MISSING
    reward: dict[str, Any] = MISSING


@dataclass
class Initialization:
    """Where weights come from before training."""

    path_to_checkpoint: str | None = None
    load_tokenizer: bool = MISSING
    load_world_model: bool = MISSING
    load_actor_critic: bool = MISSING
    tokenizer: str = bounded(among=("scratch", "pretrained"))
    world_model: str = bounded(among=("scratch", "pretrained"))


@dataclass
class DatasetSettings:
    """A replay buffer's limit, for example `30G`."""

    max_ram_usage: str | None = None
    max_num_episodes: int | None = bounded(1)
    name: str = MISSING


@dataclass
class Datasets:
    """Replay buffers."""

    train: DatasetSettings = field(default_factory=DatasetSettings)
    test: DatasetSettings = field(default_factory=DatasetSettings)


@dataclass
class Recording:
    """What the stage `collect` records for pretraining: random play, or a data set that `import-dataset` imported.

    `sha256` has, by game, that of the data set's episodes, so that other data are another configuration.
    """

    num_steps: int | None = bounded(1)
    policy: str = bounded(among=("random", "recorded"))
    dataset: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass
class PretrainingStage:
    """Length of one pretraining; its optimiser settings are those of `training`."""

    num_updates: int = bounded(0)


@dataclass
class Pretraining:
    """Both pretraining stages."""

    tokenizer: PretrainingStage = field(default_factory=PretrainingStage)
    world_model: PretrainingStage = field(default_factory=PretrainingStage)


@dataclass
class Corpus:
    """Which recordings a pretraining stage reads: of the game itself, of `games`, or of `games` without the game."""

    name: str = bounded(among=("own", "pool", "leave_one_out"))
    games: list[str] = MISSING


@dataclass
class Wandb:
    """Weights & Biases, as IRIS configures it."""

    mode: str = bounded(among=("auto", "online", "offline", "disabled"))
    project: str = MISSING
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    notes: str | None = None


@dataclass
class Logging:
    """What a run by hand shows and writes beside `metrics.jsonl` and Weights & Biases."""

    display: str = bounded(among=("auto", "live", "lines"))
    tensorboard: bool = MISSING


@dataclass
class Settings:
    """A run's whole configuration."""

    common: Common = field(default_factory=Common)
    collection: Collections = field(default_factory=Collections)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    env: Envs = field(default_factory=Envs)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    world_model: WorldModel = field(default_factory=WorldModel)
    actor_critic: dict[str, Any] = MISSING
    initialization: Initialization = field(default_factory=Initialization)
    datasets: Datasets = field(default_factory=Datasets)
    recording: Recording = field(default_factory=Recording)
    pretraining: Pretraining = field(default_factory=Pretraining)
    corpus: Corpus = field(default_factory=Corpus)
    wandb: Wandb = field(default_factory=Wandb)
    logging: Logging = field(default_factory=Logging)
    scale: dict[str, Any] = MISSING
    variant: dict[str, Any] = MISSING


def num_bytes(size: str) -> int:
    """Return the bytes of a size such as `30G` or `512M`. Raises ConfigError for another form."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = size[:-1], size[-1:].upper()
    if unit not in units or not number.replace(".", "", 1).isdigit():
        raise ConfigError(
            f"datasets.train.max_ram_usage is {size!r}; allowed: a number and K, M, G or T, such as 30G."
        )
    return int(float(number) * units[unit])
