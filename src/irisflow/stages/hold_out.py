"""Stage `hold_out`: record episodes that no training sees, to measure all world models of a game on."""

from irisflow import params, paths, provenance, schema
from irisflow.behaviour.agent import build_agent
from irisflow.data.collect import record_episodes
from irisflow.data.episodes import encode_episodes
from irisflow.envs.make import make_environment
from irisflow.initialization.weights import load_weights
from irisflow.progress import say
from irisflow.provenance import Cost
from irisflow.randomness import derived_seed, seed_everything, torch_stream
from irisflow.stages.request import RunRequest
from irisflow.storage import json_bytes, publish
from irisflow.training.device import choose_device, computing_record
from irisflow.training.policy import AgentPolicy


def run(request: RunRequest) -> None:
    """Write the artefact `held_out`: the finished agent plays, now and then at random, so that more happens."""
    settings, cost = request.settings, Cost(request.stage, **request.run)
    git = request.checkout()
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    seed_everything(request.seed, request.stage)
    environment, variant = make_environment(settings.env.train), request.choice.variant or ""
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    agent.to(device).eval()
    player = paths.agent(request.scale, variant, request.game, request.seed)
    request.open_input(player, kind="agent")
    load_weights(agent, player, kind="agent")
    asked = settings.evaluation.world_model_quality.held_out
    acting = schema.CollectionConfig(
        epsilon=asked.epsilon, temperature=asked.temperature, should_sample=True, burn_in=0
    )
    actions = torch_stream(request.seed, request.stage, "actions", device=device)
    policy = AgentPolicy(agent, acting, actions, device=device)
    env_seed = derived_seed(request.seed, request.stage, "environment")
    episodes = record_episodes(environment, policy, asked.num_steps, env_seed)
    environment.close()
    about = {**request.about, "epsilon": asked.epsilon, "temperature": asked.temperature}
    source = provenance.record(
        request.stage,
        request.digest,
        git=git,
        seeds={**request.seeds, "environment": env_seed},
        inputs=[player / "agent.safetensors"],
        computing=computing_record(device),
    )
    spent = cost.record(env_steps=asked.num_steps, device=str(device))
    files = {
        paths.EPISODES: encode_episodes(episodes, metadata={key: str(value) for key, value in about.items()}),
        "params.yaml": params.to_yaml(settings).encode(),
        "cost.json": json_bytes(spent),
        "provenance.json": json_bytes(source),
    }
    folder = paths.held_out(request.scale, variant, request.game, request.seed)
    publish(folder, files, kind="held_out", digest=request.digest, about=about)
    say(f"{folder}: {asked.num_steps} steps in {len(episodes)} episodes")
