"""What there is to choose from: games, studies, scales, variants and the parts of each family."""

from typing import Any

import yaml

from irisflow import games, params, variants


def catalogue() -> dict[str, Any]:
    """Return the names of everything that a study or a command line can choose, as plain data."""
    return {
        "families": {family: variants.available(family) for family in variants.FAMILIES},
        "variants": params.names("variant"),
        "studies": params.names("study"),
        "scales": params.names("scale"),
        "games": list(games.known_games()),
    }


def catalogue_text() -> str:
    """Return the catalogue as text to read, with what each variant, study and scale is for."""
    listing = catalogue()
    lines = ["variants"]
    lines += [
        f"  {name:<30} {_content('variant', name)['variant']['question']}" for name in listing["variants"]
    ]
    lines += ["", "studies"]
    lines += [f"  {name:<30} {_content('study', name)['title']}" for name in listing["studies"]]
    lines += ["", "scales"]
    lines += [f"  {name:<30} {_content('scale', name)['note']}" for name in listing["scales"]]
    lines += ["", "parts"]
    lines += [f"  {family:<30} {', '.join(found)}" for family, found in listing["families"].items()]
    lines += ["", "games", *_wrapped(listing["games"])]
    return "\n".join(lines)


def _content(group: str, name: str) -> Any:
    return yaml.safe_load((params.PARAMS / group / f"{name}.yaml").read_text(encoding="utf-8"))


def _wrapped(words: list[str], width: int = 6) -> list[str]:
    return ["  " + ", ".join(words[i : i + width]) for i in range(0, len(words), width)]
