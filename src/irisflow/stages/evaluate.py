"""Stage `evaluate`: the final scores of a trained agent, over fresh episodes."""

from irisflow import params, paths, provenance
from irisflow.behaviour.agent import build_agent
from irisflow.envs.make import cartridges, make_environment
from irisflow.evaluation.play import AgentPlayer, play_episodes
from irisflow.initialization.weights import load_weights
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.randomness import derived_seed, seed_everything
from irisflow.stages.request import RunRequest
from irisflow.stages.score_rows import Played, score_rows
from irisflow.storage import json_bytes, publish, sha256_of
from irisflow.training.device import choose_device, computing_record


def run(request: RunRequest) -> None:
    """Write the artefact `scores` of an agent: one row an episode, cost and provenance."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    seed_everything(request.seed, request.stage)
    variant, final = request.choice.variant or "", settings.evaluation.final
    environment = make_environment(settings.env.test)
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    environment.close()
    agent.to(device)
    folder = paths.agent(request.scale, variant, request.game, request.seed)
    request.open_input(folder, kind="agent")
    about = load_weights(agent, folder, kind="agent")
    weights = folder / "agent.safetensors"
    episodes = play_episodes(
        AgentPlayer(agent),
        settings.env.test,
        num_episodes=final.num_episodes,
        num_envs=final.num_envs,
        temperature=final.temperature,
        epsilon=final.epsilon,
        seed=derived_seed(request.seed, request.stage),
        parallel=settings.common.parallel_envs,
    )
    played = [
        Played(about["env_steps"], index, episode.score, episode.length, episode.truncated, episode.seed)
        for index, episode in enumerate(episodes)
    ]
    rows = score_rows(
        request,
        played,
        split="final",
        axis=settings.variant["axis"],
        frame_skip=settings.env.train.frame_skip,
        pretraining_env_steps=about["pretraining_env_steps"],
        temperature=final.temperature,
        epsilon=final.epsilon,
        checkpoint_sha256=sha256_of(weights),
    )
    source = provenance.record(
        request.stage,
        request.digest,
        git=git,
        seeds=request.seeds,
        inputs=[weights],
        computing=computing_record(device),
    )
    source["cartridges"] = cartridges(settings.env.test)
    files = {
        "scores.csv": rows.encode(),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(cost.record(device=str(device))),
        "provenance.json": json_bytes(source),
    }
    folder = paths.scores(request.scale, variant, request.game, request.seed)
    publish(folder, files, kind="scores", digest=request.digest, about=request.about)
    mean = sum(episode.score for episode in episodes) / len(episodes)
    say(f"{folder}: mean return {mean:.2f} over {len(episodes)} episodes")
