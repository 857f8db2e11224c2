"""Stage `pretrain_world_model`: train a world model on recorded episodes, over a pretrained tokenizer."""

from irisflow import paths, schema
from irisflow.envs.make import make_environment
from irisflow.games import FULL_ACTIONS
from irisflow.initialization.initialize import pretrained_folders
from irisflow.initialization.weights import load_weights
from irisflow.locks import single_writer
from irisflow.params import check_actions
from irisflow.provenance import Cost
from irisflow.randomness import numpy_stream, seed_everything
from irisflow.stages.recordings import publish_pretrained, recordings
from irisflow.stages.request import RunRequest
from irisflow.starts import counted
from irisflow.tokenizer.tokenizer import build_tokenizer
from irisflow.training.checkpoint import Checkpoints
from irisflow.training.device import choose_device, computing_context
from irisflow.training.encoded import EncodedReplay
from irisflow.training.losses import sample_rule, world_model_loss
from irisflow.training.optim import world_model_optimizer
from irisflow.training.pretrain import pretrain
from irisflow.world_model.world_model import build_world_model


def run(request: RunRequest) -> None:
    """Write the artefact `world_model` of a game and seed."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    num_actions = _num_actions(settings)
    folders = pretrained_folders(settings, scale=request.scale, game=request.game, seed=request.seed)
    work = paths.resume(request.stage, request.digest)
    with single_writer(work, is_temporary=True), counted(cost, work):
        replay, steps_recorded = recordings(
            request,
            time_limit_is_end=settings.training.time_limit_is_end,
            has_full_actions=settings.world_model.actions == "all",
        )
        seed_everything(request.seed, request.stage)
        tokenizer = build_tokenizer(settings.tokenizer).to(device).eval()
        request.open_input(folders["tokenizer"], kind="tokenizer")
        load_weights(tokenizer, folders["tokenizer"], kind="tokenizer")
        world_model = build_world_model(
            settings.world_model,
            vocab_size=tokenizer.vocab_size,
            num_actions=num_actions,
            tokens_per_frame=tokenizer.tokens_per_frame,
            full_action_ids=range(len(FULL_ACTIONS)),  # as the recordings have them, where that matters
        ).to(device)
        rng = numpy_stream(request.seed, request.stage)
        training = settings.training.world_model
        loss = world_model_loss(
            world_model,
            EncodedReplay(replay, tokenizer, device=device),
            numpy_stream(request.seed, request.stage),
            batch_size=training.batch_num_samples,
            length=settings.common.sequence_length,
            sample_by=sample_rule(settings.training),
        )
        optimizer = world_model_optimizer(
            world_model, learning_rate=training.learning_rate, weight_decay=training.weight_decay
        )
        result = pretrain(
            "world model",
            world_model,
            optimizer,
            loss,
            num_updates=settings.pretraining.world_model.num_updates,
            training=training,
            precision=settings.common.precision,
            rng=rng,
            checkpoints=Checkpoints(
                work / "checkpoints", digest=request.digest, context=computing_context(device)
            ),
            cost=cost,
        )
        publish_pretrained(
            request,
            world_model,
            result,
            cost,
            git=git,
            folder=folders["world_model"],
            name="world_model",
            steps_recorded=steps_recorded,
            inputs=[folders["tokenizer"] / "tokenizer.safetensors"],
            device=device,
        )


def _num_actions(settings: schema.Settings) -> int:
    """Return how many actions the world model knows. Raises ConfigError if the games of its corpus do not share them."""
    if settings.world_model.actions == "all":
        return len(FULL_ACTIONS)
    check_actions(settings.world_model.actions, corpus=settings.corpus.name)
    environment = make_environment(settings.env.train)
    environment.close()
    return environment.num_actions
