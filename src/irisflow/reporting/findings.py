"""The sentence above each figure: what the numbers show, written from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from irisflow.reporting.style import (
    MOST_TOLD,
    Summary,
    count,
    duration,
    each,
    interval,
    leaders,
    number,
    p_statement,
    percent,
    plural,
    several,
    variant_names,
)
from irisflow.statistics.phases import OTHER

CHANCE = "50 %"
MUCH = 0.1


def answer(summary: Summary) -> str:
    """Return the study's answer: whether the variants beat random play, and how they compare."""
    return f"{learns(summary)} {_compared(summary)}" if summary["random_play"] else _compared(summary)


def learns(summary: Summary) -> str:
    """Return for each variant whether its runs beat random play."""
    records = summary["random_play"]["variants"]
    if len(records) <= MOST_TOLD:
        return " ".join(_learned(name, record) for name, record in records.items())
    beaten = {"better": "beat", "worse": "score lower than"}
    groups = _by_verdict(records)
    told = [
        f"{_joined(names, 'and')} {beaten[verdict]} random play ({_largest_p(records, names)}, Holm)."
        if verdict in beaten
        else f"{_joined(names, 'and')} {'is' if len(names) == 1 else 'are'} not separated from random play."
        for verdict, names in groups.items()
    ]
    return " ".join(told)


def _by_verdict(records: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return better, worse and undecided (where there are any) -> names."""
    groups: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for name, record in records.items():
        groups[record["verdict"] if _decided(record) else "undecided"].append(name)
    return {verdict: names for verdict, names in groups.items() if names}


def _largest_p(records: Mapping[str, Any], names: Sequence[str]) -> str:
    p = max(records[name]["p_holm"] for name in names)
    return p_statement(p) if p < 0.001 or len(names) == 1 else f"p ≤ {p:.3f}"


def _learned(name: str, record: Mapping[str, Any]) -> str:
    if not _decided(record):
        if record["verdict"] == "too few runs":
            return f"There are too few runs to separate {name} from random play."
        return f"{name} is not separated from random play ({p_statement(record['p_holm'])}, Holm)."
    verb = "beats" if record["verdict"] == "better" else "scores lower than"
    share = percent(record["improvement"]["value"])
    return f"{name} {verb} random play: it wins {share} of pairs of runs ({p_statement(record['p_holm'])}, Holm)."


def _compared(summary: Summary) -> str:
    comparisons, baseline = summary["comparisons"], summary["study"]["baseline"]
    if len(variant_names(summary)) == 1:
        return f"One variant, {baseline}: there is nothing to compare. {aggregates(summary)}"
    if not comparisons:
        return "No game has a run of every variant: nothing can be compared yet."
    groups = _by_verdict(comparisons)
    separated = [
        sentence
        for verdict in ("better", "worse")
        for sentence in _found(groups, verdict, baseline, comparisons)
    ]
    rest = [name for name, record in comparisons.items() if not _decided(record)]
    if not rest:
        return " ".join(separated)
    return " ".join([*separated, _undecided(rest, baseline, comparisons)])


def _decided(record: Mapping[str, Any]) -> bool:
    return record["verdict"] in ("better", "worse")


def _found(
    groups: Mapping[str, list[str]], verdict: str, baseline: str, comparisons: Mapping[str, Any]
) -> list[str]:
    """Return the sentence for the variants of a verdict, if any: with the numbers of each, unless they are many."""
    names = groups.get(verdict, [])
    if len(names) <= 1:
        return [_separated(name, baseline, comparisons[name]) for name in names]
    if len(names) > MOST_TOLD:
        told, said = _joined(names, "and"), f"{_largest_p(comparisons, names)}, Holm"
    else:
        told = _joined([_with_numbers(name, comparisons[name]) for name in names], "and")
        said = "share of pairs of runs won, p by Holm"
    return [f"{told} are {verdict} than {baseline} ({said})."]


def _with_numbers(name: str, record: Mapping[str, Any]) -> str:
    return f"{name} ({percent(record['improvement']['value'])}, {p_statement(record['p_holm'])})"


def _separated(name: str, baseline: str, record: Mapping[str, Any]) -> str:
    share = percent(record["improvement"]["value"])
    return (
        f"{name} is {record['verdict']} than {baseline}: it wins {share} of pairs of runs"
        f" ({p_statement(record['p_holm'])}, Holm)."
    )


def _undecided(names: list[str], baseline: str, comparisons: Mapping[str, Any]) -> str:
    verb = "is" if len(names) == 1 else "are"
    if all(comparisons[name]["verdict"] == "too few runs" for name in names):
        return f"There are too few runs to separate {_joined(names, 'or')} from {baseline}."
    return f"{_joined(names, 'and')} {verb} not separated from {baseline}."


def _joined(names: list[str], word: str) -> str:
    """Return `a, b and c`, or how many there are if they are many."""
    if len(names) > MOST_TOLD:
        return f"any of {len(names)} variants" if word == "or" else f"{len(names)} variants"
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def aggregates(summary: Summary) -> str:
    """Return which variant has the highest IQM."""
    known = {name: record["iqm"] for name, record in summary["aggregates"].items() if record}
    if not known:
        return "No game with reference scores has a run of every variant: there are no normalised aggregates."
    values = {name: record["value"] for name, record in known.items()}
    best, *level = leaders(values)
    label = iqm_label(known[best]["num_values"])
    if len(known) == 1:
        return f"{best}: {label} {interval(known[best])}."
    if len(level) + 1 == len(known):
        return f"No variant lies above another: the {label} of all {len(known)} is {number(values[best])}."
    others = several(
        [(value, f"{name} {number(value)}") for name, value in values.items() if name not in (best, *level)]
    )
    if level:
        return (
            f"{_joined([best, *level], 'and')} share the highest {label}, {number(values[best])}; {others}."
        )
    return f"{best} has the highest {label}: {interval(known[best])}; {others}."


def iqm_label(num_values: int) -> str:
    """Return `IQM`, or what it really is where there are too few values to trim."""
    return "IQM" if num_values >= 4 else "mean (too few values for an IQM)"


def aggregate_label(summary: Summary) -> str:
    """Return what the study's aggregate is called: with few values the IQM is the mean."""
    block = summary["block"]
    return iqm_label(len(block["normalised_games"]) * len(block["seeds"])).split(" (")[0]


def sentence(words: str) -> str:
    """Return words with a capital at their start."""
    return words[:1].upper() + words[1:]


def difference(summary: Summary) -> str:
    """Return the largest difference in IQM from the baseline."""
    known = {
        name: record["iqm_difference"]
        for name, record in summary["comparisons"].items()
        if record["iqm_difference"]
    }
    if not known:
        return "There is no difference to draw."
    name = max(known, key=lambda name: abs(known[name]["value"]))
    baseline = summary["study"]["baseline"]
    if number(known[name]["value"]) == number(0):
        return f"No variant differs from {baseline} in {aggregate_label(summary)}."
    direction = "above" if known[name]["value"] >= 0 else "below"
    size = f"{number(abs(known[name]['value']))} ({aggregate_label(summary)})"
    return f"The largest difference: {name} lies {size} {direction} {baseline}."


def profiles(summary: Summary) -> str:
    """Return the shares of runs above 1."""
    shares = each(summary["profiles"]["above_one"], percent)
    return f"Runs that score above 1 (the human or perfect score): {shares}."


def matrix(summary: Summary) -> str:
    """Return the pair that is furthest apart."""
    pairs = {
        (x, y): record["value"]
        for x, row in summary["improvement_matrix"].items()
        for y, record in row.items()
    }
    x, y = max(pairs, key=lambda pair: pairs[pair])
    if pairs[x, y] == 0.5:
        return f"No variant wins more than {CHANCE} of pairs of runs against another."
    alike = sum(percent(share) == percent(pairs[x, y]) for share in pairs.values()) - 1
    more = f", as in {plural(alike, 'other comparison')}" if alike else ""
    return f"Furthest apart: a run of {x} beats a run of {y} in {percent(pairs[x, y])} of pairs{more}."


def forest(summary: Summary) -> str:
    """Return on how many games each variant beats the baseline."""
    baseline = summary["study"]["baseline"]
    wins = {
        name: sum(value > 0.5 for value in record["per_game"].values())
        for name, record in summary["comparisons"].items()
    }
    num_games = len(summary["block"]["games"])
    parts = each(wins, lambda won: f"{won:g} of {num_games}")
    return f"Games on which a variant wins more than half of the pairs against {baseline}: {parts}."


def learning(summary: Summary) -> str:
    """Return the IQMs at the last common evaluation while training."""
    last = {name: points[-1] for name, points in summary["curves"]["iqm"].items() if points}
    if not last:
        return "No step of the training was evaluated in every run of the comparison."
    block = summary["block"]
    label = iqm_label(len(block["normalised_games"]) * len(block["seeds"]))
    steps = {point["env_step"] for point in last.values()}
    if len(steps) == 1:
        parts = each({name: point["value"] for name, point in last.items()}, number)
        return sentence(
            f"{label} at the last evaluation while training ({count(steps.pop())} steps): {parts}."
        )
    parts = several(
        [
            (point["value"], f"{name} {number(point['value'])} at {count(point['env_step'])} steps")
            for name, point in last.items()
        ]
    )
    return sentence(f"{label} at the last evaluation while training: {parts}.")


def strips(summary: Summary) -> str:
    """Return the game whose seeds lie furthest apart, measured in normalised score."""
    spreads = {
        (game, name): record["std"] / (row["reference"]["best"] - row["reference"]["random"])
        for game, row in summary["games"].items()
        for name, record in row["variants"].items()
        if row["reference"] and record["std"] is not None
    }
    if not spreads:
        return "Every run is one dot; with one seed the spread between seeds is unknown."
    game, name = max(spreads, key=lambda key: spreads[key])
    if number(spreads[game, name]) == number(0):
        return "The seeds of a variant score alike, on every game."
    return (
        f"Seeds differ most on {game} ({name}: standard deviation {number(spreads[game, name])} normalised)."
    )


def reconstructions(psnr: Mapping[str, float], names: Sequence[str]) -> str:
    """Return each variant's mean PSNR."""
    known = {name: psnr[name] for name in names if psnr.get(name) is not None}
    return f"Mean PSNR of the reconstructions: {each(known, lambda value: f'{number(value, 1)} dB')}."


def cost(summary: Summary) -> str:
    """Return the total time and the stage that took most of it."""
    stages = summary["cost"]["wall_s_by_stage"]
    total = summary["cost"]["wall_s"]
    longest = max(stages, key=lambda stage: stages[stage])
    share = percent(stages[longest] / total) if total else "0 %"
    return f"All jobs together took {duration(total)}; {share} of it went into {longest}."


def phases(summary: Summary) -> str:
    """Return which phase of training took most time, its share, and how much lies outside of phases if that is much."""
    seconds: dict[str, float] = {}
    for row in summary["cost"]["phases"]:
        seconds[row["phase"]] = seconds.get(row["phase"], 0.0) + row["seconds"]
    total, outside = sum(seconds.values()), seconds.pop(OTHER, 0.0)
    longest = max(seconds, key=lambda phase: seconds[phase])
    rest = f"; {percent(outside / total)} lies outside of phases" if outside >= MUCH * total else ""
    share = percent(seconds[longest] / total)
    return f"Of the phases of training, {longest.replace('_', ' ')} took most: {share} of the time{rest}."
