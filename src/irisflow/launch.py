"""The second door: one run by hand with IRIS's command line, in a run folder of its own under `outputs/`."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from irisflow import games, params
from irisflow.by_hand.folder import dated_folder
from irisflow.cli import OneLineParser, guarded
from irisflow.errors import ConfigError
from irisflow.iris_words import understood

USAGE = """usage: python src/main.py KEY=VALUE ...

Trains one agent, IRIS's way, in outputs/YYYY-MM-DD/hh-mm-ss/. For example:
  python src/main.py env.train.id=BreakoutNoFrameskip-v4 common.device=cuda:0 wandb.mode=online
  python src/main.py env.train.id=Catch common.device=cpu scale=smoke

Keys are those of params/config.yaml; scale=, variant=, tokenizer=, world_model=, ... choose files of params/.
hydra.run.dir=FOLDER names another run folder. From inside a run folder: ./scripts/resume.sh goes on with that run,
python ./scripts/eval.py scores its agent, ./scripts/play.sh shows it. docs/by-hand.md explains all of it;
`irisflow list` tells what there is."""


def main(arguments: Sequence[str]) -> int:
    """Train one agent as the arguments say and return the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    return guarded(lambda: launch(list(arguments)))


def launch(arguments: list[str]) -> None:
    """Train one agent. Raises ConfigError before anything is written if the command line is wrong."""
    words = understood(arguments)
    whole, folder = _resumed(words.overrides, words.folder or Path())
    if whole is None:
        whole, folder = _new(words.overrides), _free(words.folder) if words.folder else dated_folder()
    game = games.game_of(whole.env.train.id)
    digest = params.digest("train_agent", whole, game, whole.common.seed)
    # Imported by name and only now: torch takes seconds, and a wrong key should not have to wait for it.
    import_module("irisflow.by_hand.run").run(whole, game=game, digest=digest, path=folder)


def evaluate_main(folder: Path, arguments: Sequence[str]) -> int:
    """Score the agent of a run folder as the arguments of `scripts/eval.py` say and return the exit code."""
    return guarded(lambda: _evaluate(folder, arguments))


def _new(overrides: list[str]) -> DictConfig:
    if not any(override.startswith("env.train.id=") for override in overrides):
        params.settings_from(overrides)
        raise ConfigError("env.train.id has no value. Type for example env.train.id=BreakoutNoFrameskip-v4.")
    whole = params.settings_from(overrides)
    start = whole.initialization
    if start.path_to_checkpoint is not None:  # read from wherever the run goes on
        start.path_to_checkpoint = str(Path(start.path_to_checkpoint).expanduser().absolute())
    return whole


def _free(folder: Path) -> Path:
    """Return a folder in which no run is yet, else raise ConfigError."""
    if (folder / "config/trainer.yaml").exists():
        raise ConfigError(
            f"hydra.run.dir={folder}: a run is in there already. {folder}/scripts/resume.sh goes on with it; a new run needs"
            " another folder."
        )
    return folder


def _resumed(overrides: list[str], folder: Path) -> tuple[DictConfig | None, Path]:
    """Return the configuration of the run that is to go on; None if a new one is asked for."""
    words = [word.partition("=") for word in overrides]
    if not any(key == "common.resume" and value.lower() == "true" for key, _, value in words):
        return None, folder
    if not (folder / "config/trainer.yaml").is_file():
        raise ConfigError(
            f"common.resume=true: {folder.absolute()} is no run folder (no config/trainer.yaml). Change into one, or name"
            " it: hydra.run.dir=outputs/YYYY-MM-DD/hh-mm-ss."
        )
    return params.settings_from_file(folder / "config/trainer.yaml", overrides), folder


def evaluation_parser() -> OneLineParser:
    """Return the parser of `scripts/eval.py`."""
    parser = OneLineParser(
        prog="python ./scripts/eval.py",
        description="Scores the agent of this run folder as IRIS does: 100 whole games, 25 at once, temperature 0.5.",
        epilog="KEY=VALUE changes a key of config/trainer.yaml, for example env.test.max_episode_steps=4000.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as on the launch line")
    parser.add_argument(
        "--agent", choices=("last", "best"), default="last", help="which of checkpoints/; default: last"
    )
    parser.add_argument("--episodes", type=int, default=100, help="default: 100")
    parser.add_argument(
        "--envs", type=int, default=25, help="games played at once, each in a process; default: 25"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.5, help="logits are divided by it; default: 0.5"
    )
    parser.add_argument("--epsilon", type=float, default=0.0, help="share of random actions; default: 0")
    parser.add_argument("--seed", type=int, default=None, help="of the games; default: the run's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...; default: auto")
    parser.add_argument(
        "--wandb", default="disabled", help="auto, online, offline or disabled; default: disabled"
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="the JSON file; default: evaluation/AGENT.json here"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON instead of one line")
    return parser


def _evaluate(folder: Path, arguments: Sequence[str]) -> None:
    options = evaluation_parser().parse_args(arguments)
    if not (folder / "config/trainer.yaml").is_file():
        raise ConfigError(
            f"{folder} is no run folder (no config/trainer.yaml). Run the script of one in outputs/."
        )
    chosen = {
        "evaluation.final.num_episodes": options.episodes,
        "evaluation.final.num_envs": options.envs,
        "evaluation.final.temperature": options.temperature,
        "evaluation.final.epsilon": options.epsilon,
        "common.device": options.device,
        "common.parallel_envs": "true",
        "wandb.mode": options.wandb,
        **({} if options.seed is None else {"common.seed": options.seed}),
    }
    words = [*(f"{key}={value}" for key, value in chosen.items()), *understood(options.overrides).overrides]
    whole = params.settings_from_file(folder / "config/trainer.yaml", words)
    import_module("irisflow.by_hand.evaluate").run(
        whole, folder=folder, agent=options.agent, output=options.output, is_json=options.json
    )
