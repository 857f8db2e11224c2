"""`irisflow compare`: the report over studies, run folders and score files, whoever made them."""

import argparse
from pathlib import Path

from irisflow import paths, provenance
from irisflow.checkout import git_state
from irisflow.errors import ConfigError
from irisflow.progress import say
from irisflow.reporting.document import build_report
from irisflow.statistics.comparison import compared
from irisflow.statistics.sources import Source, read_source
from irisflow.storage import space_errors


def run(options: argparse.Namespace) -> None:
    """Write the report into `options.output`. Raises ConfigError and DataError, before anything is written."""
    sources = [_source(text) for text in options.sources]
    comparison = compared(
        sources,
        baseline=options.baseline,
        games=options.games or (),
        title=options.title,
        allow_mixed=options.allow_mixed,
    )
    for source in sources:
        if source.skipped:
            say(f"{source.label}: only means over runs of {', '.join(source.skipped)}: not compared")
    inputs = sorted(file for source in sources for file in source.files)
    record = provenance.record("compare", "", git=git_state(), seeds={}, inputs=inputs)
    summary = comparison.summarise(record)
    reconstructions, films = (comparison.pictures(name) for name in ("reconstructions", "film"))
    with space_errors(options.output):
        build_report(
            summary,
            reconstructions,
            options.output,
            films=films,
            folders=comparison.folders(options.output),
        )
    say(f"{options.output}/summary.pdf, summary.html: {summary['coverage']['num_present']} runs")


def _source(text: str) -> Source:
    """Return what PATH, LABEL=PATH or the name of a finished study holds."""
    label, is_named, place = text.partition("=")
    path = Path(place if is_named else text)
    if not path.exists() and len(path.parts) == 1:
        found = sorted(paths.RESULTS.glob(f"*/studies/{path.name}"))
        if len(found) > 1:
            places = ", ".join(map(str, found))
            raise ConfigError(
                f"compare: the study {path.name} was run at several scales. Name one: {places}."
            )
        path = found[0] if found else path
    return read_source(path, label=label if is_named else None)
