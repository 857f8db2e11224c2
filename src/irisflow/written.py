"""Configurations as the files of `params/` write them: what follows from another key stays `${key}`.

Two variants that change one thing each differ from the baseline in more keys than they write: a finer grid of tokens makes
the world model's blocks longer, too. Only what is written tells whether a third variant makes just these two changes.
"""

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import OmegaConf

from irisflow import params
from irisflow.params import Choice


def written(choice: Choice) -> Mapping[str, Any]:
    """Return the composed configuration of a choice, unresolved and unchecked, as plain data."""
    # Not a function of `params`: its bytes are in the digest of every stage, and no stage of a run needs this.
    composed = params._compose(choice.hydra_overrides())
    return cast(dict[str, Any], OmegaConf.to_container(composed))
