"""How much faster than its plain counterpart a phase must be in the same run: what `--check` holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from irisflow.errors import SlowdownError

# Medians of pairs at scale quick, with slack for a busy machine. docs/benchmark.md says what was measured.
BOUNDS: dict[str, float] = {
    "imagination_32": 2.0,
    "actor_critic_update": 1.5,
    "world_model_update": 2.0,
    "sampling_tokens": 2.0,
    "environment": 2.0,
}


def check(rows: Sequence[Mapping[str, Any]], bounds: Mapping[str, float] = BOUNDS) -> None:
    """Raise SlowdownError, naming the phases, if a ratio is under its bound. A phase that was not measured passes."""
    ratios = {row["phase"]: row["ratio"]["median"] for row in rows if row["ratio"] is not None}
    slow = [
        f"{phase} is {ratios[phase]:.2f} times as fast as its plain counterpart, bound {bound:g}"
        for phase, bound in bounds.items()
        if phase in ratios and ratios[phase] < bound
    ]
    if slow:
        raise SlowdownError(
            f"bench --check: {'; '.join(slow)}. Find out with `irisflow bench --phases NAME`; the bounds are in"
            " src/irisflow/bench/bounds.py."
        )
