"""The documents of this checkout: their text, links and commands."""

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    """Return the files that git tracks and that exist; of a checkout without git, all that are no output."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "params", "workflow", "docs", "tests", "profiles")
        return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def documents() -> list[Path]:
    """Return the Markdown files."""
    return sorted(path for path in tracked() if path.suffix == ".md")


def blocks(document: Path, language: str) -> list[str]:
    """Return the code blocks of a language, without their indentation."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", document.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in found]


def commands(document: Path) -> list[list[str]]:
    """Return the commands of a document's sh blocks as words, without `./run` and variables before them."""
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [_bare(words) for words in split if _bare(words)]


def _bare(words: list[str]) -> list[str]:
    while words and (words[0] == "./run" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    return words
