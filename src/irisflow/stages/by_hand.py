"""One run by hand: the same training as the stage `train_agent`, in a run folder laid out as IRIS's."""

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from irisflow import params
from irisflow.locks import single_writer
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.stages.session import about, files_of, prepare
from irisflow.storage import publish
from irisflow.training.metrics import MetricsSink, WandbSink, write_json_lines
from irisflow.training.run import History, train


def run(whole: DictConfig, *, game: str, digest: str, folder: Path) -> None:
    """Train one agent in `folder`; `checkpoints/last` is its artefact after the last epoch."""
    settings = params.stage_settings("train_agent", whole)
    scale, seed = str(whole.scale.name), settings.common.seed
    identity = {"scale": scale, "variant": whole.variant.name, "game": game, "seed": seed}
    run_id = f"{whole.variant.name}/{game}/seed-{seed}"
    cost = Cost("train_agent", variant=whole.variant.name, game=game, seed=seed, run_id=run_id)
    session = prepare(settings, scale=scale, game=game)
    for name in ("checkpoints", "config", "media"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    say(f"run folder: {folder}")
    with single_writer(folder / "checkpoints"):
        OmegaConf.save(whole, folder / "config" / "trainer.yaml")
        sinks = _sinks(whole, folder)

        def write_metrics(history: History, _: object) -> None:
            write_json_lines(folder / "metrics.jsonl", history.metrics)
            write_json_lines(folder / "timings.jsonl", history.timings)

        history = train(
            session.trainer,
            settings,
            cost,
            checkpoint=folder / "checkpoints" / "resume",
            digest=digest,
            what=run_id,
            sinks=sinks,
            after_epoch=write_metrics,
            how_to_go_on=f"in {folder.absolute()}, the same command with common.resume=true goes on from there",
        )
        write_metrics(history, None)  # also where the last epoch was done before a stop
        for sink in sinks:
            sink.close()
        files = files_of(session, settings, history, cost, digest)
        last = folder / "checkpoints" / "last"
        publish(last, files, kind="agent", digest=digest, about=about(session, identity))
    say(f"{last}: done after {session.trainer.env_steps} steps in {cost.wall_s:.1f} s")


def _sinks(whole: DictConfig, folder: Path) -> list[MetricsSink]:
    if whole.wandb.mode == "disabled":
        return []
    plain = cast(dict[str, Any], OmegaConf.to_container(whole))
    return [WandbSink(whole.wandb, folder=folder, config=plain)]
