"""The `irisflow` command: one subcommand for each stage, and a few for the person at the keyboard.

Nothing heavy is imported before a subcommand runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from irisflow import __version__
from irisflow.bench import arguments as bench_arguments
from irisflow.errors import ConfigError, DamageError, IrisflowError, ResourceError
from irisflow.interruption import Interrupted, listening
from irisflow.viewer import arguments as play_arguments

if TYPE_CHECKING:
    from irisflow.stages.request import RunRequest
    from irisflow.stages.study_request import StudyRequest

STAGES = {
    "collect": "record episodes of random play for pretraining",
    "pretrain-tokenizer": "train a tokenizer on recorded episodes",
    "pretrain-world-model": "train a world model on recorded episodes, over a pretrained tokenizer",
    "train-agent": "train one agent: the whole of IRIS",
    "evaluate": "score a trained agent over fresh episodes",
    "play-random": "score random play over fresh episodes, for comparison",
    "hold-out": "record episodes of a trained agent to measure world models on",
    "measure-world-model": "measure an agent's tokenizer and world model on held-out episodes",
    "aggregate": "compute a study's statistics",
    "report": "write the report: reports/summary.pdf, summary.html and summary.json",
}
# What names a stage's work, beside game, seed and scale.
STAGE_GROUPS = {
    "collect": (),
    "pretrain-tokenizer": ("tokenizer", "corpus"),
    "pretrain-world-model": ("world-model", "tokenizer", "corpus"),
    "train-agent": ("variant",),
    "evaluate": ("variant",),
    "play-random": (),
    "hold-out": ("variant",),
    "measure-world-model": ("variant",),
}


class OneLineParser(argparse.ArgumentParser):
    """Tells a wrong command line as every other error: in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message}. See `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or the class of the error that one line on stderr tells."""
    return guarded(lambda: _dispatch(_parser().parse_args(arguments)))


def guarded(work: Callable[[], None]) -> int:
    """Run `work`; turn an IrisflowError into one line on stderr and its exit code. `IRISFLOW_DEBUG=1` shows tracebacks."""
    try:
        with listening():
            work()
    except DamageError as error:
        from irisflow.mend import set_right

        print(f"irisflow: {' '.join(set_right(error).split())}", file=sys.stderr)
        return error.exit_code
    except IrisflowError as error:
        if os.environ.get("IRISFLOW_DEBUG"):
            raise
        print(f"irisflow: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        if os.environ.get("IRISFLOW_DEBUG"):
            raise
        print(f"irisflow: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        return ResourceError.exit_code
    except Interrupted as stop:
        with suppress(OSError):  # Ctrl-C also ends whatever reads this
            print(f"irisflow: {stop}", file=sys.stderr)
        return stop.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="irisflow",
        description="IRIS world-model agents as reproducible experiments.",
        epilog="A whole study: snakemake --cores 8 reports/summary.pdf",
    )
    parser.add_argument("--version", action="version", version=f"irisflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, purpose in STAGES.items():
        command = commands.add_parser(stage, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        (_add_run_arguments if stage in STAGE_GROUPS else _add_study_arguments)(command, stage)
    listing = commands.add_parser("list", help="print the variants, studies, scales and games there are")
    listing.add_argument("--json", action="store_true", help="as JSON")
    verify = commands.add_parser(
        "verify", help="hash again all that a report stands on, and name what differs"
    )
    verify.add_argument(
        "paths", nargs="*", metavar="PATH", help="only artefacts in or under these; default: the whole study"
    )
    verify.add_argument("--study", default=None, help="params/study/; default: params/workflow.yaml's")
    verify.add_argument("--scale", default=None, help="instead of the study's own")
    verify.add_argument(
        "--set-aside", action="store_true", help="rename what is damaged, so that it is made again"
    )
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    bench = commands.add_parser(
        "bench", help=bench_arguments.PURPOSE, description=f"Bench: {bench_arguments.PURPOSE}."
    )
    bench_arguments.add_arguments(bench)
    _add_exchange_arguments(commands)
    _add_compare_arguments(commands)
    play = commands.add_parser(
        "play",
        help=play_arguments.PURPOSE,
        description=f"Play: {play_arguments.PURPOSE}.",
        add_help=False,
    )
    play_arguments.add_arguments(play)
    pull = commands.add_parser("pull", help="fetch results with DVC and tell Snakemake that they are current")
    pull.add_argument("--remote", help="the DVC remote to fetch from; default: DVC's own")
    pull.add_argument(
        "--study", default=None, help="the study whose results come; default: params/workflow.yaml's"
    )
    return parser


def _add_exchange_arguments(commands: "argparse._SubParsersAction[OneLineParser]") -> None:
    purpose = "make a run folder of an agent that IRIS trained"
    into = commands.add_parser("import-checkpoint", help=purpose, description=f"{purpose.capitalize()}.")
    into.add_argument("file", nargs="?", type=Path, help="IRIS's last.pt")
    into.add_argument("--scale", default="full", help="its sizes (params/scale/); default: full, IRIS's own")
    into.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change one key")
    into.add_argument("--game", required=True, help="the game that the agent plays")
    into.add_argument("--released", action="store_true", help="fetch the agent that IRIS's authors released")
    into.add_argument(
        "--folder", type=Path, default=None, help="the run folder; default: a dated one in outputs/"
    )
    _add_import_dataset(commands)
    purpose = "write an agent as IRIS's checkpoints are"
    out = commands.add_parser("export-checkpoint", help=purpose, description=f"{purpose.capitalize()}.")
    out.add_argument("run", type=Path, help="a run folder, or an agent's folder under results/")
    out.add_argument(
        "--agent", choices=("last", "best"), default="last", help="of a run folder; default: last"
    )
    out.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the checkpoint, such as last.pt"
    )


def _add_compare_arguments(commands: "argparse._SubParsersAction[OneLineParser]") -> None:
    purpose = "report on studies, run folders and score files beside each other"
    compare = commands.add_parser("compare", help=purpose, description=f"{purpose.capitalize()}.")
    compare.add_argument(
        "sources",
        nargs="+",
        metavar="[LABEL=]SOURCE",
        help="a finished study, a folder of scores, a run folder, a .csv or .json file; the games are the first one's",
    )
    compare.add_argument(
        "--output", type=Path, default=Path("reports/compare"), help="default: reports/compare"
    )
    compare.add_argument(
        "--baseline", default=None, help="the variant to compare with; default: the first study's"
    )
    compare.add_argument("--games", nargs="+", default=None, help="instead of those of the first source")
    compare.add_argument("--title", default=None, help="of the report")
    compare.add_argument(
        "--allow-mixed", action="store_true", help="compare what was not played alike; stamps each page"
    )


def _add_import_dataset(commands: "argparse._SubParsersAction[OneLineParser]") -> None:
    purpose = "take episodes that others recorded in place of random play"
    command = commands.add_parser("import-dataset", help=purpose, description=f"{purpose.capitalize()}.")
    command.add_argument(
        "source",
        metavar="SOURCE",
        help="a data set of Minari (folder, or name in the local store), a folder of .npz or of this project's episodes",
    )
    command.add_argument("--name", required=True, help="what recording=NAME will say")
    command.add_argument("--game", required=True, help="the game that the episodes are of")
    command.add_argument("--size", type=int, default=64, help="height and width of the frames; default: 64")
    command.add_argument("--force", action="store_true", help="replace other episodes of this name and game")


def _add_run_arguments(command: argparse.ArgumentParser, stage: str) -> None:
    command.add_argument("--scale", required=True, help="sizes and schedule (params/scale/)")
    for group in STAGE_GROUPS[stage]:
        default = "own" if group == "corpus" else None
        command.add_argument(
            f"--{group}", required=default is None, default=default, help=f"params/{_key(group)}/"
        )
    command.add_argument(
        "--game",
        required=True,
        help="a game that `irisflow list` prints, a gymnasium id, or `any` for the corpus pool",
    )
    command.add_argument("--seed", required=True, type=int, help="0 or more")
    if stage == "measure-world-model":
        command.add_argument(
            "--held-out", required=True, type=Path, help="the folder of a recording by `hold-out`"
        )
    _add_common_arguments(command)


def _add_study_arguments(command: argparse.ArgumentParser, _stage: str) -> None:
    command.add_argument("--study", required=True, help="params/study/")
    command.add_argument("--scale", default=None, help="instead of the study's own")
    command.add_argument("--games", nargs="+", default=None, help="instead of the study's own")
    command.add_argument("--seeds", nargs="+", type=int, default=None, help="instead of the study's own")
    _add_common_arguments(command)


def _add_common_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--override",
        action="append",
        default=_planned_overrides(),
        metavar="KEY=VALUE",
        help="change one key; may be repeated",
    )
    command.add_argument("--digest", default=None, help="refuse to run if the configuration's digest differs")
    command.add_argument("--force", action="store_true", help="make again what is there and current")


def _planned_overrides() -> list[str]:
    """Return the overrides of the study, which the Snakefile hands to its jobs in IRISFLOW_OVERRIDES."""
    text = os.environ.get("IRISFLOW_OVERRIDES", "[]")
    try:
        overrides = json.loads(text)
    except ValueError:
        overrides = None
    if not isinstance(overrides, list):
        raise ConfigError(
            f'the variable IRISFLOW_OVERRIDES is {text!r}; allowed: a JSON list such as ["KEY=VALUE"]. Unset it.'
        )
    return [str(override) for override in overrides]


def _dispatch(options: argparse.Namespace) -> None:
    if options.command == "list":
        from irisflow.catalogue import catalogue, catalogue_text

        print(json.dumps(catalogue(), indent=1) if options.json else catalogue_text())
        return
    if options.command == "verify":
        from irisflow.verify import run

        run(
            study=options.study,
            scale=options.scale,
            paths=options.paths,
            set_aside=options.set_aside,
            as_json=options.json,
        )
        return
    if options.command == "bench":
        _bench(options)
        return
    if options.command == "import-checkpoint":
        _import_checkpoint(options)
        return
    if options.command == "import-dataset":
        _import_dataset(options)
        return
    if options.command == "export-checkpoint":
        exchange = import_module("irisflow.by_hand.exchange")
        exchange.export_checkpoint(options.run, agent_name=options.agent, output=options.output)
        return
    if options.command == "compare":
        import_module("irisflow.compare").run(options)
        return
    if options.command == "play":
        from irisflow.viewer.play import run as play

        play(options)
        return
    if options.command == "pull":
        from irisflow.pull import pull

        pull(remote=options.remote, study=options.study)
        return
    request = _request(options)
    is_planned = options.digest is not None  # by Snakemake, which has deleted what was there
    if not (options.force or is_planned) and _is_done(request):
        return
    # Only now: torch takes seconds, and a wrong name should not have to wait for it.
    import_module(f"irisflow.stages.{request.stage}").run(request)


def _import_checkpoint(options: argparse.Namespace) -> None:
    from irisflow.by_hand.folder import dated_folder

    if options.released == (options.file is not None):
        raise ConfigError("import-checkpoint: name a FILE, or --released without one.")
    folder = options.folder or dated_folder()
    exchange = import_module("irisflow.by_hand.exchange")
    exchange.check_free(folder)
    file = exchange.released(options.game) if options.released else options.file
    words = [f"scale={options.scale}", *options.override]
    exchange.import_checkpoint(file, game=options.game, overrides=words, folder=folder)


def _import_dataset(options: argparse.Namespace) -> None:
    importing = import_module("irisflow.by_hand.import_dataset")
    importing.import_dataset(
        importing.Wish(options.source, options.name, options.game, options.size, options.force)
    )


def _bench(options: argparse.Namespace) -> None:
    if options.compare is not None:
        from irisflow.bench.compare import run as compare

        compare(*options.compare)
        return
    from irisflow.bench.run import run as measure

    measure(options)


def _is_done(request: "RunRequest | StudyRequest") -> bool:
    """Return whether a stage by hand has nothing to do, and say so."""
    from irisflow.progress import say
    from irisflow.stages.current import folder_of, is_current

    if not is_current(request):
        return False
    say(f"{folder_of(request)} is current, nothing to do; --force makes it again")
    return True


def _request(options: argparse.Namespace) -> "RunRequest | StudyRequest":
    from irisflow.stages.request import RunRequest
    from irisflow.stages.study_request import StudyRequest

    stage, common = _key(options.command), (options.override, options.digest)
    if options.command not in STAGE_GROUPS:
        changes = {key: getattr(options, key) for key in ("scale", "games", "seeds")}
        return StudyRequest.checked(stage, options.study, *common, **changes)
    groups = {_key(group): getattr(options, _key(group)) for group in STAGE_GROUPS[options.command]}
    request = RunRequest.checked(stage, options.scale, options.game, options.seed, *common, **groups)
    return replace(request, held_out=getattr(options, "held_out", None))


def _key(words: str) -> str:
    return words.replace("-", "_")
