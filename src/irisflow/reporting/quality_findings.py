"""The sentences above the world models' figures, written from the numbers."""

from irisflow.reporting.quality import Place, Quality, after
from irisflow.reporting.style import number, percent, plural


def tokenizer(quality: Quality) -> str:
    """Return each variant's PSNR after training, and before."""
    parts = [part for name in quality.measured(quality.everything) if (part := _reached(quality, name))]
    where = "" if len(quality.everything.games) == 1 else f" ({quality.everything.label})"
    return f"The tokenizer of {'; of '.join(parts)}{where}."


def _reached(quality: Quality, name: str) -> str:
    place = quality.everything
    steps = quality.steps(name, place)
    values = [quality.scalar(name, place, "psnr", step) for step in steps]
    if not values or values[-1] is None:
        return ""
    text = f"{name} reaches {number(values[-1]['mean'], 1)} dB {after(steps[-1])}"
    if len(values) == 1 or values[0] is None:
        return text
    return f"{text}, from {number(values[0]['mean'], 1)} dB {after(steps[0])}"


def dynamics(quality: Quality, place: Place) -> str:
    """Return how many of the changed tokens each finished world model gets right, and whether it beats copying."""
    parts = [part for name in quality.measured(place) if (part := _ahead(quality, name, place))]
    return (
        f"{place.label}: {'; '.join(parts)}." if parts else f"{place.label}: nothing changed on the screen."
    )


def _ahead(quality: Quality, name: str, place: Place) -> str:
    step = max(quality.steps(name, place))
    changed = quality.curve(name, place, "changed_token_accuracy", "greedy", step)
    if changed is None:
        return ""
    first, last = changed["horizon"][0], changed["horizon"][-1]
    text = (
        f"{name} gets {percent(changed['mean'][0])} of the changed tokens right {plural(first, 'frame')} ahead,"
        f" {percent(changed['mean'][-1])} {last} ahead"
    )
    own = quality.curve(name, place, "open_psnr", "greedy", step)
    copied = quality.curve(name, place, "open_psnr", "copy_last", step)
    if own is None or copied is None:
        return text
    wins = sum(a > b for a, b in zip(own["mean"], copied["mean"], strict=False))
    return (
        f"{text}, and is nearer than a copy of the last frame at {wins} of {len(own['mean'])} horizons (PSNR)"
    )


def films(quality: Quality) -> str:
    """Return how near the imagined frames are at the end of the horizon."""
    parts, place = [], quality.everything
    for name in quality.measured(place):
        curve = quality.curve(name, place, "open_psnr", "sampled", max(quality.steps(name, place)))
        if curve:
            parts.append(
                f"{name} {number(curve['mean'][0], 1)} dB one frame ahead, {number(curve['mean'][-1], 1)} dB"
                f" {curve['horizon'][-1]} ahead"
            )
    return f"The same start and the same actions, real and imagined: {'; '.join(parts)}."


def heads(quality: Quality) -> str:
    """Return macro-F1 of the reward and average precision of the end beside its base rate."""
    rewards, ends, place = [], [], quality.everything
    for name in quality.measured(place):
        first, *_, last = [*quality.steps(name, place)[:1], *quality.steps(name, place)[-1:]]
        score = quality.scalar(name, place, "reward_macro_f1", last)
        before = quality.scalar(name, place, "reward_macro_f1", first)
        if score:
            change = f" (from {number(before['mean'], 2)})" if before and first != last else ""
            rewards.append(f"{name} {number(score['mean'], 2)}{change}")
        precision = quality.scalar(name, place, "end_average_precision", last)
        base = quality.scalar(name, place, "end_base_rate", last)
        if precision and base:
            ends.append(
                f"{name} {number(precision['mean'], 2)} against a base rate of {number(base['mean'], 3)}"
            )
    told = f"Macro-F1 of the reward's sign: {', '.join(rewards)}." if rewards else ""
    told_ends = (
        f" Average precision of ends: {', '.join(ends)}."
        if ends
        else " No game ended in the held-out episodes."
    )
    return f"{told}{told_ends}".strip()
