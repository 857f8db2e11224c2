"""Stage `collect`: record episodes of random play, for pretraining."""

from irisflow import params, paths
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.data.episodes import encode_episodes
from irisflow.envs.make import make_environment
from irisflow.progress import say
from irisflow.provenance import Cost, record
from irisflow.randomness import derived_seed, numpy_stream
from irisflow.stages.request import RunRequest
from irisflow.storage import json_bytes, publish


def run(request: RunRequest) -> None:
    """Write the artefact `recording` of a game and seed."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    environment = make_environment(settings.env.train)
    policy = RandomPolicy(environment.num_actions, numpy_stream(request.seed, "collect", "actions"))
    env_seed = derived_seed(request.seed, "collect", "environment")
    episodes = record_episodes(environment, policy, settings.recording.num_steps, env_seed)
    metadata = {key: str(value) for key, value in request.about.items()}
    source = record(request.stage, request.digest, seeds=request.seeds, inputs=[])
    files = {
        paths.EPISODES: encode_episodes(episodes, metadata=metadata),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record(env_steps=settings.recording.num_steps)),
        "provenance.json": json_bytes(source),
    }
    folder = paths.recording(request.scale, request.game, request.seed)
    publish(folder, files, kind="recording", digest=request.digest, about=request.about)
    say(f"{folder}: {settings.recording.num_steps} steps in {len(episodes)} episodes")
