"""What a stage of one run is asked for: checked names, the keys it may read, the digest it must have."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from irisflow import compositions, games, params, paths, schema
from irisflow.checkout import git_state
from irisflow.errors import ConfigError
from irisflow.identity import check_made_as_planned, open_own
from irisflow.params import Choice
from irisflow.storage import Artefact


@dataclass(frozen=True)
class RunRequest:
    """One stage of one game and seed."""

    stage: str
    choice: Choice  # game and seed included, as overrides
    game: str
    seed: int
    digest: str
    held_out: Path | None = None  # the recording that a world model is measured on
    is_planned: bool = False  # whether the pipeline asked for just this digest

    @classmethod
    def checked(
        cls,
        stage: str,
        scale: str,
        game: str,
        seed: int,
        overrides: list[str],
        digest: str | None,
        **groups: str,
    ) -> Self:
        """Return the request.

        Raises ConfigError if a name does not exist, or the digest is not the one that was planned.
        """
        for group, name in {"scale": scale, **groups}.items():
            params.check_choice(group, name)
        games.check_run_game(game, corpus=groups.get("corpus"))
        if seed < 0:
            raise ConfigError(f"--seed is {seed}; allowed: 0 or more.")
        planned = Choice(scale, overrides=tuple(overrides), **groups)
        computed = compositions.planned_digest(stage, planned, game, seed)
        check_digest(stage, planned=digest, computed=computed)
        own = (*overrides, f"env.train.id={games.env_id_of(game)}", f"common.seed={seed}")
        return cls(
            stage, Choice(scale, overrides=own, **groups), game, seed, computed, is_planned=digest is not None
        )

    @cached_property
    def settings(self) -> schema.Settings:
        """The keys that this stage declares in `params.STAGE_KEYS`; reading another raises."""
        return params.stage_settings(self.stage, compositions.values(self.choice))

    def open_input(self, folder: Path, *, kind: str) -> Artefact:
        """Return an artefact that this stage reads.

        Raises DataError if it is missing, damaged, another run's, or not what is planned now.
        """
        artefact = open_own(folder, kind=kind)
        check_made_as_planned(artefact, self.choice.overrides, is_planned=self.is_planned)
        return artefact

    def checkout(self) -> dict[str, Any]:
        """Return the state of the checkout now, as the stage begins, and keep what is not committed."""
        return git_state(paths.diffs(self.scale))

    @property
    def scale(self) -> str:
        """The scale's name."""
        return self.choice.scale

    @property
    def run(self) -> dict[str, str | int | None]:
        """What identifies the run in cost records."""
        run_id = f"{self.choice.variant or self.stage}/{self.game}/seed-{self.seed}"
        return {"variant": self.choice.variant, "game": self.game, "seed": self.seed, "run_id": run_id}

    @property
    def seeds(self) -> dict[str, int]:
        """The seed that all of the run's random streams derive from."""
        return {"run": self.seed}

    @property
    def about(self) -> dict[str, str | int]:
        """What identifies the artefact, for its manifest."""
        groups = {key: getattr(self.choice, key) for key in ("variant", "tokenizer", "world_model", "corpus")}
        named = {key: name for key, name in groups.items() if name}
        return {"scale": self.scale, "game": self.game, "seed": self.seed, **named}


def check_digest(stage: str, *, planned: str | None, computed: str) -> None:
    """Raise ConfigError if a digest was planned and is no longer the one."""
    if planned is not None and planned != computed:
        raise ConfigError(
            f"{stage}: params/ or the code changed since this job was planned (digest {planned}, now {computed})."
            " Run the same snakemake command again."
        )
