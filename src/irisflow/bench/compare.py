"""`irisflow bench --compare A B`: two results side by side. No torch."""

import sys
from pathlib import Path

from irisflow.bench import result, table
from irisflow.progress import say


def run(first: Path, second: Path) -> None:
    """Print the ratios of medians. Raises DataError or ConfigError for files that cannot be compared."""
    results = result.read(first), result.read(second)
    for warning in result.check_comparable(*results, (first, second)):
        say(f"bench --compare: {warning}")
    sys.stdout.write(table.comparison_text(result.comparison(*results)) + "\n")
