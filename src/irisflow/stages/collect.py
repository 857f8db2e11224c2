"""Stage `collect`: record episodes of random play, for pretraining."""

from irisflow import paths
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.data.episodes import save_episodes
from irisflow.envs.make import make_environment
from irisflow.progress import say
from irisflow.provenance import Cost, record
from irisflow.randomness import derived_seed, numpy_stream
from irisflow.stages.request import RunRequest
from irisflow.storage import json_bytes, write_atomically


def run(request: RunRequest) -> None:
    """Write `data/<scale>/<game>/seed-<seed>.safetensors.zst` its cost and its provenance."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    environment = make_environment(settings.env.train)
    policy = RandomPolicy(environment.num_actions, numpy_stream(request.seed, "collect", "actions"))
    env_seed = derived_seed(request.seed, "collect", "environment")
    episodes = record_episodes(environment, policy, settings.recording.num_steps, env_seed)
    path = paths.recording(request.scale, request.game, request.seed)
    save_episodes(path, episodes, metadata={key: str(value) for key, value in request.about.items()})
    spent = cost.record(env_steps=settings.recording.num_steps)
    source = record(
        request.stage, request.digest, seeds=request.seeds, inputs=[], device="cpu", num_threads=1
    )
    for kind, content in (("cost.json", spent), ("provenance.json", source)):
        write_atomically(
            paths.recording(request.scale, request.game, request.seed, kind), json_bytes(content)
        )
    say(f"{path}: {settings.recording.num_steps} steps in {len(episodes)} episodes")
