"""Stage `play_random`: the scores of uniformly random actions, over the test games that agents are scored on."""

from irisflow import params, paths, provenance
from irisflow.envs.base import Environment
from irisflow.envs.make import make_environment
from irisflow.progress import progress, say
from irisflow.provenance import Cost
from irisflow.randomness import derived_seed, numpy_stream
from irisflow.stages.request import RunRequest
from irisflow.stages.score_rows import Played, score_rows
from irisflow.storage import json_bytes, publish


def run(request: RunRequest) -> None:
    """Write the artefact `random_play` of a game and seed: one row an episode, cost and provenance."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    environment, num_episodes = make_environment(settings.env.test), settings.evaluation.final.num_episodes
    seed = derived_seed(request.seed, request.stage)
    games = (play_game(environment, seed, index) for index in range(num_episodes))
    played = list(progress(games, what="playing", unit="episode", total=num_episodes))
    environment.close()
    rows = score_rows(
        request,
        played,
        split="final",
        axis="",
        frame_skip=settings.env.test.frame_skip,
        pretraining_env_steps=0,
        temperature=1.0,
        epsilon=1.0,
        checkpoint_sha256="",
    )
    source = provenance.record(request.stage, request.digest, git=git, seeds=request.seeds, inputs=[])
    files = {
        "scores.csv": rows.encode(),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record()),
        "provenance.json": json_bytes(source),
    }
    folder = paths.random_play(request.scale, request.game, request.seed)
    publish(folder, files, kind="random_play", digest=request.digest, about=request.about)
    mean = sum(game.return_raw for game in played) / len(played)
    say(f"{folder}: mean return {mean:.2f} over {len(played)} episodes of random play")


def play_game(environment: Environment, seed: int, index: int) -> Played:
    """Return a whole game of uniformly random actions; it depends on the seed and its number only.

    The streams have the names that `play_episodes` gives them, so that both start their games alike.
    """
    env_seed, rng = derived_seed(seed, "game", index), numpy_stream(seed, "actions", index)
    environment.reset(seed=env_seed)
    score, length, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        action = int(rng.integers(environment.num_actions))
        _, reward, terminated, truncated, _ = environment.step(action)
        score, length = score + float(reward), length + 1
    return Played(0, index, score, length, truncated, env_seed)
