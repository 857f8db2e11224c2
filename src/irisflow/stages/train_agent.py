"""Stage `train_agent`: the whole of IRIS for one variant, game and seed. A stopped run goes on from `resume/`."""

import hashlib

from irisflow import paths
from irisflow.initialization.initialize import initial_folders
from irisflow.locks import single_writer
from irisflow.provenance import Cost
from irisflow.stages.request import RunRequest
from irisflow.stages.score_rows import Played, score_rows
from irisflow.stages.session import about, files_of, prepare
from irisflow.starts import counted
from irisflow.storage import publish
from irisflow.training.run import train
from irisflow.training.snapshots import Snapshots


def run(request: RunRequest) -> None:
    """Write the artefact `agent`: weights, snapshots, metrics, learning curve, reconstructions, cost, provenance."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    work = paths.resume(request.stage, request.digest)
    variant, protocol = request.choice.variant or "", settings.collection.test.config
    with single_writer(work, is_temporary=True), counted(cost, work):
        for part, folder in initial_folders(
            settings, scale=request.scale, game=request.game, seed=request.seed
        ):
            request.open_input(folder, kind=part)
        session = prepare(settings, scale=request.scale, game=request.game)
        what = f"{variant}/{request.game}/seed-{request.seed}"
        snapshots = Snapshots(
            session.agent,
            work / "snapshots",
            num_epochs=settings.common.epochs,
            num_snapshots=settings.evaluation.num_snapshots,
        )
        snapshots.begin()
        history = train(
            session.trainer,
            settings,
            cost,
            checkpoint=work / "checkpoints",
            digest=request.digest,
            what=what,
            sinks=[snapshots],
        )
        files = files_of(session, settings, history, cost, request.digest, git=git)
        curve = score_rows(
            request,
            [Played(**row) for row in history.curve],
            split="curve",
            axis=settings.variant["axis"],
            frame_skip=settings.env.train.frame_skip,
            pretraining_env_steps=session.origin.env_steps,
            temperature=protocol.temperature,
            epsilon=protocol.epsilon,
            checkpoint_sha256=hashlib.sha256(files["agent.safetensors"]).hexdigest(),
        )
        publish(
            paths.agent(request.scale, variant, request.game, request.seed),
            {**files, "curve.csv": curve.encode(), "snapshots.safetensors": snapshots.collected()},
            kind="agent",
            digest=request.digest,
            about=about(session, request.about),
        )
