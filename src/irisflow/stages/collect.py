"""Stage `collect`: record episodes for pretraining, of random play or from an imported data set."""

from pathlib import Path

from irisflow import params, paths
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.data.episodes import decode_episodes, encode_episodes
from irisflow.data.importing import first_steps
from irisflow.envs.make import make_environment
from irisflow.errors import ConfigError, DataError
from irisflow.progress import say
from irisflow.provenance import Cost, record
from irisflow.randomness import derived_seed, numpy_stream
from irisflow.records import Episode
from irisflow.stages.request import RunRequest
from irisflow.storage import MANIFEST, json_bytes, publish


def run(request: RunRequest) -> None:
    """Write the artefact `recording` of a game and seed."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    is_imported = settings.recording.policy == "recorded"
    episodes, inputs = _imported(request) if is_imported else (_played(request), [])
    num_steps = sum(len(episode) for episode in episodes)
    metadata = {key: str(value) for key, value in request.about.items()}
    source = record(request.stage, request.digest, git=git, seeds=request.seeds, inputs=inputs)
    files = {
        paths.EPISODES: encode_episodes(episodes, metadata=metadata),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record(env_steps=num_steps)),
        "provenance.json": json_bytes(source),
    }
    folder = paths.recording(request.scale, request.game, request.seed)
    publish(folder, files, kind="recording", digest=request.digest, about=request.about)
    say(f"{folder}: {num_steps} steps in {len(episodes)} episodes")


def _played(request: RunRequest) -> list[Episode]:
    """Return episodes of random play."""
    num_steps = request.settings.recording.num_steps
    assert num_steps is not None
    environment = make_environment(request.settings.env.train)
    policy = RandomPolicy(environment.num_actions, numpy_stream(request.seed, "collect", "actions"))
    return record_episodes(
        environment, policy, num_steps, derived_seed(request.seed, "collect", "environment")
    )


def _imported(request: RunRequest) -> tuple[list[Episode], list[Path]]:
    """Return the episodes of the data set, the same for every seed, and their file.

    Raises ConfigError if it has none of the game, DataError unless they are those that the configuration names.
    """
    settings, size = request.settings.recording, request.settings.env.train.size
    assert settings.dataset is not None
    if request.game not in settings.sha256:
        known = ", ".join(settings.sha256)
        raise ConfigError(
            f"recording={settings.dataset} has no episodes of {request.game}; there are: {known}. Add them with"
            f" `irisflow import-dataset SOURCE --name {settings.dataset} --game {request.game}`."
        )
    folder = paths.imported(settings.dataset, request.game)
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"recording={settings.dataset}: {folder} does not exist. Import it with `irisflow import-dataset`, or restore it"
            " with `dvc checkout`."
        )
    artefact = request.open_input(folder, kind="imported")
    path = folder / paths.EPISODES
    if artefact.sha256.get(path.name) != settings.sha256[request.game]:
        raise DataError(
            f"{path} holds other episodes than params/recording/{settings.dataset}.yaml names. Restore the right ones with"
            " `dvc checkout`, or import them again."
        )
    episodes, _ = decode_episodes(artefact.read(path.name), path)
    found = episodes[0].observations.shape[-1]
    if found != size:
        raise DataError(
            f"{path} has frames of {found} pixels a side, env.train.size is {size}. Import it again with --size {size}."
        )
    return first_steps(episodes, settings.num_steps), [path]
