"""The final score of a run by hand: IRIS's protocol, over fresh games."""

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from irisflow import games, params
from irisflow.behaviour.agent import build_agent
from irisflow.by_hand.folder import RunFolder
from irisflow.by_hand.wandb_outlet import WandbOutlet, chosen_mode
from irisflow.envs.make import make_environment
from irisflow.errors import DataError
from irisflow.evaluation.play import AgentPlayer, PlayedEpisode, play_episodes
from irisflow.initialization.weights import load_weights
from irisflow.randomness import derived_seed, seed_everything
from irisflow.statistics.reference import reference
from irisflow.storage import json_bytes, sha256_of, write_atomically
from irisflow.training.device import choose_device


def run(whole: DictConfig, *, folder: Path, agent: str, output: Path | None, is_json: bool) -> None:
    """Play, write the result as JSON, and print one line, or the JSON."""
    place = RunFolder(folder)
    weights = {"last": place.last, "best": place.best}[agent]
    if not (weights / "manifest.json").is_file():
        others = [name for name, path in (("last", place.last), ("best", place.best)) if path.is_dir()]
        mend = f"Choose --agent {others[0]}." if others else "Train first: ./scripts/resume.sh."
        raise DataError(f"{weights} does not exist: no epoch of this run has written it yet. {mend}")
    mode = chosen_mode(whole.wandb.mode)
    began = time.monotonic()
    played, about = _played(whole, weights)
    result = _result(whole, weights, about, played, seconds=time.monotonic() - began)
    write_atomically(output or folder / "evaluation" / f"{agent}.json", json_bytes(result))
    if mode != "disabled":
        _log(whole, mode, folder, result)
    print(json_bytes(result).decode().rstrip() if is_json else one_line(result))


def one_line(result: dict[str, Any]) -> str:
    """Return a result for people."""
    normalised = result["normalised_mean"]
    against = "" if normalised is None else f", {normalised:.3f} {result['normalised_by']}"
    return (
        f"{result['game']}: mean return {result['mean']:.4g} ± {result['standard_error']:.2g}, median {result['median']:.4g}"
        f", {result['lowest']:.4g} to {result['highest']:.4g}{against}; {result['num_episodes']} episodes, temperature"
        f" {result['temperature']:g}, agent {result['agent']} after {result['env_steps']:,} steps"
    )


def _played(whole: DictConfig, weights: Path) -> tuple[list[PlayedEpisode], dict[str, Any]]:
    settings = params.stage_settings("evaluate", whole)
    final = settings.evaluation.final
    device = choose_device(settings.common.device, num_threads=settings.common.num_threads)
    seed_everything(settings.common.seed, "evaluate")
    environment = make_environment(settings.env.test)
    agent = build_agent(
        settings, num_actions=environment.num_actions, full_action_ids=environment.full_action_ids
    )
    environment.close()
    about = load_weights(agent.to(device), weights, kind="agent")
    played = play_episodes(
        AgentPlayer(agent),
        settings.env.test,
        num_episodes=final.num_episodes,
        num_envs=final.num_envs,
        temperature=final.temperature,
        epsilon=final.epsilon,
        seed=derived_seed(settings.common.seed, "evaluate"),
        parallel=settings.common.parallel_envs,
    )
    return played, about


def _result(
    whole: DictConfig, weights: Path, about: dict[str, Any], played: list[PlayedEpisode], *, seconds: float
) -> dict[str, Any]:
    """Return the result as JSON-able data."""
    final, game = whole.evaluation.final, games.game_of(whole.env.test.id)
    returns = np.array([episode.score for episode in played])
    against = reference(game)
    error = float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else 0.0
    return {
        "game": game,
        "agent": weights.name,
        "agent_sha256": sha256_of(weights / "agent.safetensors"),
        "env_steps": about["env_steps"],
        "num_episodes": len(played),
        "temperature": float(final.temperature),
        "epsilon": float(final.epsilon),
        "seed": int(whole.common.seed),
        "mean": float(returns.mean()),
        "standard_error": error,
        "median": float(np.median(returns)),
        "lowest": float(returns.min()),
        "highest": float(returns.max()),
        "normalised_mean": None if against is None else float(against.normalise(float(returns.mean()))),
        "normalised_by": None if against is None else _scale_of(against.best_label),
        "returns": returns.tolist(),
        "lengths": [episode.length for episode in played],
        "truncated": [episode.truncated for episode in played],
        "seconds": round(seconds, 1),
        "steps_per_s": round(sum(episode.length for episode in played) / seconds, 1),
    }


def _scale_of(best: str) -> str:
    return f"on the scale from random play (0) to {best} (1)"


def _log(whole: DictConfig, mode: str, folder: Path, result: dict[str, Any]) -> None:
    config = cast(dict[str, Any], OmegaConf.to_container(whole))
    outlet = WandbOutlet(whole.wandb, mode, folder=folder, config=config)
    names = ("mean", "standard_error", "median", "lowest", "highest", "normalised_mean", "num_episodes")
    outlet.write({f"evaluation/{name}": result[name] for name in names if result[name] is not None})
    outlet.close()
