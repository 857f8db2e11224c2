"""What the report is told about a study: names, questions, and how many runs were asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from irisflow.errors import ConfigError
from irisflow.statistics.configuration import Change

NOT_EVIDENCE = {
    "smoke": "SMOKE: not evidence",
    "compared": "COMPARISON of several sources: budgets and protocols may differ",
    "mixed": "MIXED PROTOCOLS: the scores were not measured alike",
    "quick": "QUICK: tiny budget, not evidence about Atari 100k",
}


@dataclass(frozen=True)
class VariantDescription:
    """One arm of the study. `question` is one line: what the arm answers. `axis` says what it changes.

    `changes` are the keys of its configuration that differ from the baseline's: key, value there, value here (None: absent).
    `written_changes` are those that differ as `params/` writes them, without what follows from another key.
    """

    name: str
    question: str = ""
    axis: str = ""
    changes: tuple[Change, ...] = ()
    written_changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class StudyDescription:
    """A study as it was planned; the report compares it with what is there.

    `scale_note` states the budget in words. `full_protocol` is true only where budget and evaluation are
    IRIS's own. `own_seeds` has the seeds of variants that come from elsewhere and have other ones than `seeds`.
    `configuration` has the keys and values of the baseline.
    """

    name: str
    title: str
    scale: str
    scale_note: str
    games: tuple[str, ...]
    variants: tuple[VariantDescription, ...]
    baseline: str
    seeds: tuple[int, ...]
    num_evaluation_episodes: int
    bootstrap_reps: int = 2000
    full_protocol: bool = False
    own_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    configuration: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for an empty or contradictory study."""
        for key in ("games", "variants", "seeds"):
            values = self.variant_names if key == "variants" else getattr(self, key)
            if not values or len(set(values)) != len(values):
                raise ConfigError(
                    f"study {self.name}, key {key}: found {list(values)}, allowed: one or more, each once."
                )
        if self.baseline not in self.variant_names:
            raise ConfigError(
                f"study {self.name}, key baseline: found {self.baseline!r}, allowed:"
                f" {', '.join(self.variant_names)}."
            )

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """Return the seeds that a variant should have run with."""
        return self.own_seeds.get(variant, self.seeds)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Return the names of the variants in the study's order."""
        return tuple(variant.name for variant in self.variants)

    @property
    def ordered_variants(self) -> tuple[VariantDescription, ...]:
        """Return the variants, the baseline first, then those that change the same thing beside each other."""
        axes = [variant.axis for variant in self.variants if variant.name != self.baseline]
        others = (variant for variant in self.variants if variant.name != self.baseline)
        first = next(variant for variant in self.variants if variant.name == self.baseline)
        return (first, *sorted(others, key=lambda variant: axes.index(variant.axis)))

    @property
    def stamp(self) -> str:
        """Return what every page must say about how much the numbers prove; empty for the full protocol."""
        if self.full_protocol:
            return ""
        return NOT_EVIDENCE.get(
            self.scale, "Reduced protocol: not comparable with published Atari 100k scores"
        )
