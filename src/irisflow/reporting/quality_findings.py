"""The sentences above the world models' figures, written from the numbers."""

from irisflow.reporting.quality import Place, Quality, after
from irisflow.reporting.style import number, percent, plural, several


def tokenizer(quality: Quality) -> str:
    """Return each variant's PSNR after training, and before, and how many small moving objects it draws."""
    place = quality.everything
    names = quality.measured(place)
    finals = {max(quality.steps(name, place)) for name in names}
    parts = [part for name in names if (part := _reached(quality, name, is_told_when=len(finals) > 1))[1]]
    drawn = [part for name in names if (part := _drawn(quality, name))[1]]
    when = f" {after(*finals)}" if len(finals) == 1 else ""
    where = "" if len(place.games) == 1 else f" ({place.label})"
    told = f" Small moving objects drawn: {several(drawn)}." if drawn else ""
    return f"PSNR of the reconstructions{when}{where}: {several(parts)}.{told}"


def _drawn(quality: Quality, name: str) -> tuple[float, str]:
    place = quality.everything
    recall = quality.scalar(name, place, "small_object_recall", max(quality.steps(name, place)))
    return (recall["mean"], f"{name} {percent(recall['mean'])}") if recall else (0.0, "")


def _reached(quality: Quality, name: str, *, is_told_when: bool) -> tuple[float, str]:
    place = quality.everything
    steps = quality.steps(name, place)
    first, last = (quality.scalar(name, place, "psnr", step) for step in (steps[0], steps[-1]))
    if last is None:
        return 0.0, ""
    when = f" {after(steps[-1])}" if is_told_when else ""
    before = f" ({after(steps[0])} {number(first['mean'], 1)} dB)" if first and len(steps) > 1 else ""
    return last["mean"], f"{name} {number(last['mean'], 1)} dB{when}{before}"


def dynamics(quality: Quality, place: Place, names: list[str]) -> str:
    """Return how many of the changed tokens these finished world models get right, and whether they beat copying."""
    parts = [part for name in names if (part := _ahead(quality, name, place))[1]]
    return (
        f"{place.label}: {several(parts, separator='; ')}."
        if parts
        else f"{place.label}: nothing changed on the screen."
    )


def _ahead(quality: Quality, name: str, place: Place) -> tuple[float, str]:
    step = max(quality.steps(name, place))
    changed = quality.curve(name, place, "changed_token_accuracy", "greedy", step)
    if changed is None:
        return 0.0, ""
    first, last = changed["horizon"][0], changed["horizon"][-1]
    text = (
        f"{name} gets {percent(changed['mean'][0])} of the changed tokens right {plural(first, 'frame')} ahead,"
        f" {percent(changed['mean'][-1])} {last} ahead"
    )
    own = quality.curve(name, place, "open_psnr", "greedy", step)
    copied = quality.curve(name, place, "open_psnr", "copy_last", step)
    if own is None or copied is None:
        return changed["mean"][0], text
    wins = sum(a > b for a, b in zip(own["mean"], copied["mean"], strict=False))
    told = (
        f"{text}, and is nearer than a copy of the last frame at {wins} of {len(own['mean'])} horizons (PSNR)"
    )
    return changed["mean"][0], told


def films(quality: Quality) -> str:
    """Return how near the imagined frames are at the end of the horizon."""
    parts, place = [], quality.everything
    for name in quality.measured(place):
        curve = quality.curve(name, place, "open_psnr", "sampled", max(quality.steps(name, place)))
        if curve:
            near, far = curve["mean"][0], curve["mean"][-1]
            told = f"{number(near, 1)} dB one frame ahead, {number(far, 1)} dB {curve['horizon'][-1]} ahead"
            parts.append((far, f"{name} {told}"))
    return f"The same start and the same actions, real and imagined: {several(parts, separator='; ')}."


def heads(quality: Quality) -> str:
    """Return macro-F1 of the reward and average precision of the end beside its base rate."""
    rewards, ends, place = [], [], quality.everything
    for name in quality.measured(place):
        first, *_, last = [*quality.steps(name, place)[:1], *quality.steps(name, place)[-1:]]
        score = quality.scalar(name, place, "reward_macro_f1", last)
        before = quality.scalar(name, place, "reward_macro_f1", first)
        if score:
            change = f" (from {number(before['mean'], 2)})" if before and first != last else ""
            rewards.append((score["mean"], f"{name} {number(score['mean'], 2)}{change}"))
        precision = quality.scalar(name, place, "end_average_precision", last)
        base = quality.scalar(name, place, "end_base_rate", last)
        if precision and base:
            told = f"{name} {number(precision['mean'], 2)} against a base rate of {number(base['mean'], 3)}"
            ends.append((precision["mean"], told))
    told = f"Macro-F1 of the reward's sign: {several(rewards)}." if rewards else ""
    told_ends = (
        f" Average precision of ends: {several(ends)}."
        if ends
        else " No game ended in the held-out episodes."
    )
    return f"{told}{told_ends}".strip()


def ends(quality: Quality) -> str:
    """Return the precision at a recall of one half, beside the base rate, and the calibration error."""
    precise, errors, bases, place = [], [], set(), quality.everything
    for name in quality.measured(place):
        last = max(quality.steps(name, place))
        precision = quality.scalar(name, place, "end_precision", last, 50)
        base = quality.scalar(name, place, "end_base_rate", last)
        if precision and base:
            precise.append((precision["mean"], f"{name} {percent(precision['mean'])}"))
            bases.add(f"{100 * base['mean']:.2g} %")
        error = quality.scalar(name, place, "end_calibration_error", last)
        if error:
            errors.append((error["mean"], f"{name} {number(error['mean'], 3)}"))
    told = (
        f"Precision of ends where half of them are found: {several(precise)} (base rate {', '.join(sorted(bases))})."
        if precise
        else "No game ended in the held-out episodes."
    )
    return f"{told} Expected calibration error: {several(errors)}."
