"""What page one must warn of: generated from the study and its results, never left to the author."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from irisflow.games import ATARI_100K
from irisflow.statistics.exact import seeds_needed
from irisflow.statistics.permutation import LEVEL
from irisflow.statistics.power import SIZES
from irisflow.statistics.study import StudyDescription

IRIS_EPISODES = 100
LARGEST_SHARE = 0.3
MOST_LISTED = 8
MOST_PLANNED = 3
Summary = Mapping[str, Any]


def caveats(study: StudyDescription, summary: Summary) -> list[dict[str, str]]:
    """Return the warnings that apply, gravest first: `level` (`stop`, `warn` or `note`) and `text`."""
    sources = (
        _scale,
        _missing,
        _elsewhere,
        _remarks,
        _provenance,
        _seeds,
        _attainable,
        _games,
        _episodes,
        _time_limit,
        _dominance,
        _comparisons,
        _power,
    )
    found = [caveat for source in sources for caveat in source(study, summary)]
    return sorted(found, key=lambda caveat: ("stop", "warn", "note").index(caveat["level"]))


def _caveat(level: str, text: str) -> dict[str, str]:
    return {"level": level, "text": text}


def _scale(study: StudyDescription, _: Summary) -> Iterator[dict[str, str]]:
    if study.stamp:
        note = study.scale_note.rstrip(".")
        yield _caveat("stop", f"{study.stamp.rstrip('.')}. {note[:1].upper()}{note[1:]}.")


def _missing(study: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    missing = summary["coverage"]["missing"]
    if missing:
        listed = ", ".join("/".join(map(str, run)) for run in missing[:MOST_LISTED])
        more = f" and {len(missing) - MOST_LISTED} more" if len(missing) > MOST_LISTED else ""
        block = summary["block"]
        yield _caveat(
            "stop",
            f"PARTIAL: {len(missing)} of {len(missing) + summary['coverage']['num_present']} planned runs"
            f" have no final score"
            f" ({listed}{more}). Aggregates use the {len(block['games'])} of {len(study.games)} games and"
            f" {len(block['seeds'])} of {len(study.seeds)} seeds that every variant has.",
        )


def _elsewhere(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    if number := summary["num_from_elsewhere"]:
        text = f"{number} runs are from score files: how they were trained and played is not known here."
        yield _caveat("warn", text)


def _remarks(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    """Pass on what whoever gathered the inputs has to say about them."""
    for remark in summary["remarks"]:
        yield _caveat(remark["level"], remark["text"])


def _provenance(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    provenance = summary["provenance"]
    if provenance["is_dirty"]:
        yield _caveat("warn", "Some jobs ran from a working tree with uncommitted changes (page Provenance).")
    if len(provenance["commits"]) > 1:
        yield _caveat("warn", f"Jobs ran at {len(provenance['commits'])} different commits.")
    if provenance["num_machines"] > 1:
        yield _caveat("note", f"Jobs ran on {provenance['num_machines']} different machines.")
    ways = "; ".join(
        f"{key.replace('_', ' ')} {', '.join(found)}"
        for key, found in provenance["computing"].items()
        if len(found) > 1 and key != "precision"  # which training has of its own: the configuration tells
    )
    if ways:
        yield _caveat("note", f"Jobs did not all compute alike: {ways}.")


def _seeds(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    num_seeds, num_games = len(summary["block"]["seeds"]), len(summary["block"]["games"])
    if num_seeds == 1:
        yield _caveat("stop", "One seed: no interval can be given. Differences are not evidence.")
    elif num_seeds in (2, 3):
        many, few = (".78", ".46") if num_seeds == 2 else (".85", ".68")
        yield _caveat(
            "warn",
            f"n = {num_seeds}: IQM intervals labelled 95 % covered {many} (26 games) or {few} (3 games) in"
            f" our calibration.",
        )
    elif num_seeds in (4, 5):
        yield _caveat(
            "note",
            f"n = {num_seeds}: intervals labelled 95 % cover about .92 (26 games), .75\N{EN DASH}.85 (3 games).",
        )
    if 1 < num_seeds < 10 and num_games > 1:
        yield _caveat(
            "note",
            "The median is greyed: with fewer than 10 seeds its interval covered only .47\N{EN DASH}.79.",
        )


def _attainable(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    comparisons = summary["comparisons"]
    if not comparisons:
        return
    smallest = next(iter(comparisons.values()))["smallest_p_holm"]
    if smallest >= LEVEL:
        needed = seeds_needed(len(summary["block"]["games"]), len(comparisons))
        yield _caveat(
            "stop",
            f"This design cannot reach p < .05 (smallest p = {smallest:.2g} after Holm). Run at least"
            f" {needed} seeds.",
        )


def _games(study: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    num_games = len(study.games)
    if num_games < 8:
        plural = "games do" if num_games > 1 else "game do"
        yield _caveat("warn", f"Results on {num_games} {plural} not extend to Atari 100k (26 games).")
    toys = [game for game in study.games if game not in ATARI_100K]
    if toys:
        yield _caveat("note", f"No Atari-100k game: {', '.join(toys)}.")
    unreferenced = [game for game in study.games if summary["games"][game]["reference"] is None]
    if unreferenced:
        yield _caveat(
            "warn",
            f"No reference scores for {', '.join(unreferenced)}: shown raw, left out of normalised"
            f" aggregates.",
        )
    for game in study.games:
        scale = summary["games"][game]["reference"]
        if scale and scale["best_label"] != "human":
            yield _caveat("note", f"{game}: score 1 is {scale['best_label']}.")


def _episodes(study: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    if not (protocol := summary["protocol"]):
        return
    if protocol["least_episodes"] < study.num_evaluation_episodes:
        yield _caveat(
            "warn",
            f"Some run has {protocol['least_episodes']} of {study.num_evaluation_episodes} planned"
            f" evaluation episodes.",
        )
    if protocol["least_episodes"] < IRIS_EPISODES:
        error = protocol["median_episode_error"]
        size = (
            f" (median standard error of a run's score: {error:.3f} normalised)" if error is not None else ""
        )
        yield _caveat(
            "note",
            f"{protocol['least_episodes']} evaluation episodes per run{size}; IRIS uses {IRIS_EPISODES}.",
        )


def _time_limit(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    if not (protocol := summary["protocol"]):
        return
    share = protocol["num_truncated"] / protocol["num_episodes"]
    if share:
        yield _caveat(
            "warn",
            f"{100 * share:.0f} % of the final episodes were cut off by the time limit: their scores, and what is"
            " normalised from them, are not those of whole games.",
        )


def _dominance(_: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    games = summary["block"]["normalised_games"]
    if len(games) < 4:
        return
    means = np.array(
        [[record["normalised"] for record in summary["games"][game]["variants"].values()] for game in games]
    )
    shares = (np.abs(means) / np.abs(means).sum(axis=0)).max(axis=1)
    for game, share in zip(games, shares, strict=True):
        if share > LARGEST_SHARE:
            yield _caveat(
                "note", f"{game} alone makes {100 * share:.0f} % of a variant's mean: look at the IQM."
            )


def _comparisons(study: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    count = len(summary["comparisons"])
    if count > 1:
        chance = 1 - (1 - LEVEL) ** count
        yield _caveat(
            "note",
            f"{count} comparisons with {study.baseline}: p values are Holm-adjusted; unadjusted, the chance"
            f" of at least one"
            f" false win would be {100 * chance:.0f} %.",
        )


def _power(study: StudyDescription, summary: Summary) -> Iterator[dict[str, str]]:
    """Tell how many seeds would be enough for what was not separated, if that is not much to tell."""
    open_ones = [
        name for name, record in summary["comparisons"].items() if record["verdict"] == "not separated"
    ]
    if summary["power"] and 0 < len(open_ones) <= MOST_PLANNED:
        needed = {name: summary["power"][name]["seeds"] for name in open_ones}
        told = ", ".join(f"{name} {seeds or f'more than {SIZES[-1]}'}" for name, seeds in needed.items())
        yield _caveat(
            "note",
            f"Seeds for 80 % power against {study.baseline}, were the differences what they are here: {told}.",
        )
