"""Which phases there are, in the order in which they are measured."""

from collections.abc import Sequence

from irisflow.bench import model_phases, play_phases
from irisflow.bench.phases import Maker
from irisflow.errors import ConfigError, nearest

# Updates of the tokenizer make all tokens stale and the last phases change the buffer, so they come late.
PHASES: dict[str, Maker] = {
    "encode": model_phases.encode,
    "decode": model_phases.decode,
    "imagination_8": model_phases.imagination(8),
    "imagination_32": model_phases.imagination(32),
    "imagination_64": model_phases.imagination(64),
    "world_model_update": model_phases.world_model_update,
    "actor_critic_update": model_phases.actor_critic_update,
    "sampling_tokens": play_phases.sampling_tokens,
    "sampling_frames": play_phases.sampling_frames,
    "evaluation": play_phases.evaluation,
    "tokenizer_update": model_phases.tokenizer_update,
    "environment": play_phases.environment,
    "environment_processes": play_phases.environment_processes,
    "collection": play_phases.collection,
    "checkpoint": play_phases.checkpoint,
    "epoch": play_phases.epoch,
}


def chosen(names: Sequence[str]) -> list[str]:
    """Return the phases that are named; `imagination` names all three of them. All of them if none is named.

    Raises ConfigError for a name that names nothing.
    """
    for name in names:
        if not any(_is_named(phase, name) for phase in PHASES):
            raise ConfigError(
                f"--phases: {name!r} does not exist{nearest(name, PHASES)}. There are: {', '.join(PHASES)};"
                " `imagination` means all three of it."
            )
    return [phase for phase in PHASES if not names or any(_is_named(phase, name) for name in names)]


def _is_named(phase: str, name: str) -> bool:
    return phase == name or (name == "imagination" and phase.startswith("imagination_"))
