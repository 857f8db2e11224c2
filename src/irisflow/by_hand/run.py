"""One run by hand: the same training as the stage `train_agent`, in a run folder laid out as IRIS's."""

from contextlib import ExitStack
from pathlib import Path

from omegaconf import DictConfig

from irisflow import params
from irisflow.by_hand.folder import RunFolder
from irisflow.by_hand.outlets import open_outlets
from irisflow.by_hand.recorder import Recorder
from irisflow.by_hand.wandb_outlet import chosen_mode
from irisflow.initialization.initialize import Origin
from irisflow.locks import single_writer
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.stages.session import Session, about, files_of, prepare
from irisflow.starts import counted
from irisflow.storage import publish
from irisflow.training.metrics import write_json_lines
from irisflow.training.run import History, train

HOW_TO_GO_ON = (
    "in {folder}, ./scripts/resume.sh goes on from there, as does the same command with common.resume=true"
)


def run(whole: DictConfig, *, game: str, digest: str, path: Path) -> None:
    """Train one agent in a run folder, or go on with it."""
    settings = params.stage_settings("train_agent", whole)
    scale, seed = str(whole.scale.name), settings.common.seed
    identity = {"scale": scale, "variant": whole.variant.name, "game": game, "seed": seed}
    run_id = f"{whole.variant.name}/{game}/seed-{seed}"
    cost = Cost("train_agent", variant=whole.variant.name, game=game, seed=seed, run_id=run_id)
    folder, mode = RunFolder(path), chosen_mode(whole.wandb.mode)
    session = _prepared(whole, folder, scale=scale, game=game)
    if not whole.common.resume:
        folder.make(whole)
        folder.write_origin(session.origin.record())
    git = folder.read_origin()["git"]
    work = path / "checkpoints"
    with single_writer(work), counted(cost, work), ExitStack() as stack:
        folder.clear()
        outlets = open_outlets(stack, whole, path, mode=mode, run_id=run_id, device=str(session.device))
        say(f"run folder: {path if path.parts else path.absolute()}")

        def publish_agent(name: str, history: History) -> None:
            files = files_of(session, settings, history, cost, digest, git=git)
            target = path / "checkpoints" / name
            publish(target, files, kind="agent", digest=digest, about=about(session, identity))

        recorder = Recorder(whole, folder, game=game, outlets=outlets, publish=publish_agent)

        def write_metrics(history: History, _: object) -> None:
            write_json_lines(path / "metrics.jsonl", history.metrics)
            write_json_lines(path / "timings.jsonl", history.timings)
            write_json_lines(path / "episodes.jsonl", recorder.episode_rows(history))

        history = train(
            session.trainer,
            settings,
            cost,
            checkpoint=folder.resume,
            digest=digest,
            what=run_id,
            sinks=outlets,
            before_save=recorder,
            after_epoch=write_metrics,
            how_to_go_on=HOW_TO_GO_ON.format(folder=path.absolute()),
        )
        write_metrics(history, None)  # also where the last epoch was done before a stop
        publish_agent("last", history)
        say(f"{folder.last}: done after {session.trainer.env_steps} steps in {cost.wall_s:.1f} s")


def _prepared(whole: DictConfig, folder: RunFolder, *, scale: str, game: str) -> Session:
    """Return a trainer. That of a run which goes on gets its weights from the run's checkpoint and from nowhere else."""
    settings = params.stage_settings("train_agent", whole)
    if whole.common.resume and any(folder.resume.glob("generation-*")):
        origin = Origin.from_record(folder.read_origin()["weights"])
        return prepare(settings, scale=scale, game=game, origin=origin)
    return prepare(settings, scale=scale, game=game)
