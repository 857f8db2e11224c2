"""Stage `pretrain_tokenizer`: train a tokenizer on recorded episodes."""

from irisflow import paths
from irisflow.locks import single_writer
from irisflow.provenance import Cost
from irisflow.randomness import numpy_stream, seed_everything
from irisflow.stages.recordings import publish_pretrained, recordings
from irisflow.stages.request import RunRequest
from irisflow.starts import counted
from irisflow.tokenizer.tokenizer import build_tokenizer
from irisflow.training.checkpoint import Checkpoints
from irisflow.training.device import choose_device, computing_context
from irisflow.training.losses import sample_rule, tokenizer_loss
from irisflow.training.optim import tokenizer_optimizer
from irisflow.training.pretrain import pretrain


def run(request: RunRequest) -> None:
    """Write the artefact `tokenizer` of a game and seed."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    work = paths.resume(request.stage, request.digest)
    with single_writer(work, is_temporary=True), counted(cost, work):
        replay, steps_recorded = recordings(request)
        seed_everything(request.seed, request.stage)
        tokenizer = build_tokenizer(settings.tokenizer)
        tokenizer.load_losses()
        tokenizer.to(device)
        rng = numpy_stream(request.seed, request.stage)
        training = settings.training.tokenizer
        loss = tokenizer_loss(
            tokenizer,
            replay,
            rng,
            device,
            batch_size=training.batch_num_samples,
            sample_by=sample_rule(settings.training),
        )
        result = pretrain(
            "tokenizer",
            tokenizer,
            tokenizer_optimizer(tokenizer, learning_rate=training.learning_rate),
            loss,
            num_updates=settings.pretraining.tokenizer.num_updates,
            training=training,
            precision=settings.common.precision,
            rng=rng,
            checkpoints=Checkpoints(
                work / "checkpoints", digest=request.digest, context=computing_context(device)
            ),
            cost=cost,
        )
        folder = paths.tokenizer(
            request.scale, settings.tokenizer.name, settings.corpus.name, request.game, request.seed
        )
        publish_pretrained(
            request,
            tokenizer,
            result,
            cost,
            git=git,
            folder=folder,
            name="tokenizer",
            steps_recorded=steps_recorded,
            inputs=[],
            device=device,
        )
